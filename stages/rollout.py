"""Evaluation: whole episodes on fixed seeds, by the agent, at random, or by a scripted policy."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policies.agent import Agent, component_key
from policies.settings import Planner as PlannerName
from policies.settings import PlanningSettings
from stages.acting import AgentActor, Rows, random_actions, to_simulator
from stages.episodes import EpisodeCounter, metric_value
from stages.expectations import Expectations
from stages.settings import Study
from stages.training_loop import environment_seeds
from tasks import registry
from tasks.contract import MASK, TaskError, TaskSpec
from tasks.vector import Episode, Vector, make_vector

Chooser = Callable[[Rows, int], np.ndarray]
ENDLESS = 100_000  # steps in which no episode ends; the longest of a suite, Crafter's, has 10,000


@dataclass(frozen=True)
class AgentChooser:
    """Chooses as an agent does."""

    agent: Agent
    actor: AgentActor

    def __call__(self, rows: Rows, count: int) -> np.ndarray:
        return self.actor(self.agent, rows, count)


@dataclass
class Film:
    """Frames of each environment's first episode, uint8 [H, W, 3], at most `steps` of them."""

    steps: int
    frames: list[list[np.ndarray]] = field(default_factory=list)


class Examination:
    """A batch of evaluation environments that begins with the same episodes every time.

    Args:
        kind: names the set of seeds; training never uses them.
        episodes: how many count.
        seen: on the levels of training where `tasks.levels` confines it, and not on unseen ones.
    """

    def __init__(
        self,
        study: Study,
        task: str,
        spec: TaskSpec,
        kind: str,
        episodes: int,
        seen: bool = False,
    ):
        self.study, self.spec, self.episodes = study, spec, episodes
        self.number = min(study.evaluate.environments, episodes)
        seeds = environment_seeds(f"{kind}/{task}", 0, self.number)
        training = study.training
        options = study.tasks if seen else registry.unseen(study.tasks)
        self.vector: Vector = make_vector(
            task, options, seeds, training.workers, training.step_timeout
        )
        self._rows = self.vector.reset()
        self._start = self.vector.snapshot()
        self._fresh = True
        self.ended: Rows = self._rows  # the rows that the last run came to, and did not act on

    def run(
        self, choose: Chooser, film: Film | None = None, steps: int | None = None
    ) -> list[dict[str, Any]]:
        """Records of the episodes, in the order of their environments and beginnings; of who acts
        `expecting` something, with what was expected and what came of it.

        With `steps`, so many steps of the batch are taken, whatever ends meanwhile.

        Raises:
            TaskError: no episode ends.
        """
        rows = self._rows if self._fresh else self.vector.restore(self._start)
        self._fresh = False
        counter = EpisodeCounter(self.spec, self.number)
        counter.add(rows)
        actor = choose.actor if isinstance(choose, AgentChooser) else None
        expectations = Expectations(self.number, self.study.behaviour.discount)
        shares = [len(range(i, self.episodes, self.number)) for i in range(self.number)]
        done: list[list[dict[str, Any]]] = [[] for _ in range(self.number)]
        count = ended = 0
        while True:
            finished = all(len(d) >= share for d, share in zip(done, shares, strict=True))
            if count >= steps if steps is not None else finished:
                break
            if count - ended >= ENDLESS:
                raise TaskError(
                    f"{self.spec.name}: no episode has ended for {ENDLESS:,} steps;"
                    " set tasks.episode_length"
                )
            if film is not None:
                self._shoot(film, rows, done)
            actions = choose(rows, count)
            told = actor.expected if actor is not None else None
            if told is not None:
                expectations.begin(rows["is_first"], told)
            seeds = self.vector.snapshot()["episodes"]
            rows = self.vector.step(to_simulator(self.spec.action, actions))
            count += 1
            expectations.add(rows)
            for record in counter.add(rows):
                ended = count
                index = record.pop("environment")
                if len(done[index]) < shares[index]:
                    name = f"{index}/{seeds[index]}"
                    value = metric_value(self.spec, record)
                    more = expectations.of(index) if told is not None else {}
                    done[index].append({"episode_seed": name, **record, **more, "value": value})
        self.ended = rows
        return [record for records in done for record in records]

    def episode_seed(self) -> int:
        """The seed that the first environment's first episode was reset with."""
        return Episode(self._start["seeds"][0], self._start["episodes"][0]).reset_seed

    def agent_chooser(
        self,
        agent: Agent,
        seed: int,
        planner: PlannerName = "none",
        greedy: bool = True,
        expecting: bool = False,
    ) -> AgentChooser:
        """Act with an agent, without noise unless asked."""
        settings = self.study.planning
        return AgentChooser(
            agent, self.agent_actor(agent, seed, planner, greedy, settings, expecting)
        )

    def agent_actor(
        self,
        agent: Agent,
        seed: int,
        planner: PlannerName,
        greedy: bool,
        settings: PlanningSettings,
        expecting: bool = False,
    ) -> AgentActor:
        """What acts with an agent in these environments."""
        return AgentActor(
            self.spec,
            agent,
            self.number,
            component_key(seed, "evaluate", "acting"),
            planner=planner,
            greedy=greedy,
            settings=settings,
            expecting=expecting,
        )

    def random_chooser(self) -> Chooser:
        """Uniform actions."""
        seed = environment_seeds("evaluate/random", 0, 1)[0]

        def choose(rows: Rows, count: int) -> np.ndarray:
            return random_actions(self.spec.action, self.number, seed, count, rows.get(MASK))

        return choose

    def oracle_chooser(self) -> Chooser:
        """The task's scripted policy."""

        def choose(rows: Rows, count: int) -> np.ndarray:
            actions = self.vector.oracle_actions()
            if self.spec.action.kind == "discrete":
                return np.eye(self.spec.action.size, dtype=np.float32)[actions]
            return np.asarray(actions, np.float32)

        return choose

    def close(self) -> None:
        """End the simulators."""
        self.vector.close()

    def _shoot(self, film: Film, rows: Rows, done: list[list[dict[str, Any]]]) -> None:
        """Keep a frame of every environment whose first episode is still on."""
        if (frames := self.vector.render()) is None:
            return
        film.frames = film.frames or [[] for _ in range(self.number)]
        for index, kept in enumerate(film.frames):
            if not done[index] and len(kept) < film.steps:
                kept.append(frames[index])
