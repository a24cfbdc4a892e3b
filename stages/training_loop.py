"""The loop that exploration and transfer share: collect, learn, record, checkpoint, go on.

Collecting and learning alternate strictly, so that a run is a function of its settings and seed;
with `training.overlap` the next steps are collected, and the next batches drawn, while the device
learns, with a policy one call old. A job that is run again goes on from its last checkpoint.
"""

import contextlib
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from policies.agent import Agent, component_key
from policies.search import cooled
from stages import checkpoints, interruption
from stages.acting import AgentActor, random_actions, to_simulator
from stages.batches import Batches
from stages.coverage import Coverage
from stages.episodes import EpisodeCounter
from stages.metrics import Metrics, MetricsError, Progress, Stopwatch, plain
from stages.priorities import Drawn
from stages.replay import Replay, ReplayError
from stages.settings import Study, planned_updates
from stages.training_step import (
    ERRORS,
    TrainingState,
    build_step,
    faded,
    initial_state,
    place,
)
from tasks.contract import MASK, TaskSpec
from tasks.group import empty_rows
from tasks.vector import TaskFault, make_vector

logger = logging.getLogger("craik.stages")

UPDATES_PER_ROW = 100  # of the metrics


class TrainingError(Exception):
    """Training cannot go on; one line that names the last good checkpoint."""


@dataclass(frozen=True)
class Plan:
    """What one training job is to do."""

    stage: str  # explore | transfer
    task: str
    seed: int
    steps: int  # env steps
    random_steps: int  # of them, collected at random at first
    points: int  # times at which `at_point` is called, besides the start
    learns: bool = True  # the random baseline does not
    prior: Agent | None = None  # frozen exploration agent that collects first
    prior_steps: int = 0
    rehearsal: Replay | None = None  # the exploration's replay
    rehearsal_share: float = 0.0  # of each batch
    updates: int = 0  # on `rehearsal` alone, relabelled, in the place of env steps
    learn: tuple[str, ...] | None = None  # components that learn; None: all


@dataclass
class Counters:
    """What is counted, by the field's names."""

    env_steps: int = 0
    vector_steps: int = 0
    updates: int = 0
    learning_start: int = -1  # env steps at which learning began
    points: int = 0
    finished: bool = False  # the last rows are written


class TrainingLoop:
    """One job's training; `at_point(loop)` is called at the start and at equal env steps."""

    def __init__(
        self,
        study: Study,
        spec: TaskSpec,
        agent: Agent,
        plan: Plan,
        folder: Path,
        at_point: Callable[["TrainingLoop"], None],
    ):
        self.study, self.spec, self.plan, self.folder = study, spec, plan, folder
        self.at_point = at_point
        training = study.training
        self.number = training.environments
        seeds = environment_seeds(f"{plan.stage}/{plan.task}", plan.seed, self.number)
        self._exits = contextlib.ExitStack()
        self.vector = make_vector(
            plan.task, study.tasks, seeds, training.workers, training.step_timeout
        )
        self._exits.callback(self.vector.close)
        key = component_key(plan.seed, plan.stage, "training")
        self.update_key, act_key, prior_key = jax.random.split(key, 3)
        self.planned = plan.updates or planned_updates(training, plan.steps)
        self.state = initial_state(agent, training, plan.learn)
        # frozen settings have a hash, which type checkers do not see
        self.step = build_step(
            training,  # pyright: ignore[reportArgumentType]
            study.curiosity,  # pyright: ignore[reportArgumentType]
            plan.stage,
            self.planned,
            plan.learn,
        )
        self.actor = AgentActor(
            spec,
            agent,
            self.number,
            act_key,
            planner=study.planning.collect,
            greedy=False,
            settings=study.planning,
        )
        self.prior = plan.prior and AgentActor(
            spec, plan.prior, self.number, prior_key, planner="none", greedy=False
        )
        self.acting = agent
        self.counters = Counters()
        self.episodes = EpisodeCounter(spec, self.number)
        position = spec.log.get("log/position")
        self.coverage = Coverage(position.shape[0]) if position else None
        self.recent: list[dict[str, Any]] = []
        self._pool = self._exits.enter_context(ThreadPoolExecutor(1))
        self._ahead: Future[Any] | None = None
        self._pending: tuple[dict[str, Any], Drawn | None] | None = None
        self._compiled: set[str] = set()
        self._beyond = False
        self.last_metrics: dict[str, float] = {}
        self._noise_seed = environment_seeds(f"noise/{plan.stage}", plan.seed, 1)[0]
        self.batches = Batches(
            training,
            self._noise_seed,
            plan.rehearsal,
            share=1.0 if plan.updates else plan.rehearsal_share,
            known=plan.updates > 0,
        )
        try:
            with self._told():
                self._begin()
        except BaseException:
            self.close()
            raise

    def run(self) -> TrainingState:
        """Train to the end of the plan; the final checkpoint is written.

        Raises:
            TrainingError: the loss is no number, the disk is full, or the simulator keeps failing;
                the last good checkpoint is named.
            Interrupted: on request, after a checkpoint.
        """
        try:
            with self._told():
                self._train_to_the_end()
        finally:
            self.close()
        return self.state

    def _train_to_the_end(self) -> None:
        offline = self.plan.updates > 0
        progress = Progress(
            self.folder,
            self.plan.stage,
            self.plan.updates if offline else self.plan.steps,
            "updates" if offline else "env steps",
        )
        saved = time.monotonic()
        every = self.study.training.checkpoint_minutes * 60
        with interruption.watched() as stop:
            self._points()
            while self._goes_on():
                if offline:
                    self._train()
                else:
                    self._collect()
                    self._learn()
                # before an evaluation, which may take longer than whoever stops us will wait
                if stop() or time.monotonic() - saved > every or self.replay.crowded:
                    self._save()
                    saved = time.monotonic()
                if stop():
                    raise interruption.Interrupted(f"{self.folder}: stopped, checkpointed")
                self._points()
                progress.show(self.counters.updates if offline else self.counters.env_steps)
            if not self.counters.finished:
                self._settle_pending()
                if offline:  # its one point: there are no env steps to draw a curve over
                    with self.watch("evaluation"):
                        self.at_point(self)
                self._write_rows()
                self.counters.finished = True
                self._save()
            if stop():
                raise interruption.Interrupted(f"{self.folder}: stopped, checkpointed")

    def _goes_on(self) -> bool:
        """Whether the plan has more to do."""
        if self.plan.updates:
            return self.counters.updates < self.plan.updates
        return self.counters.env_steps < self.plan.steps

    def close(self) -> None:
        """End simulators, threads and files."""
        self._exits.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Name the last good checkpoint where something outside this program ends the job."""
        try:
            yield
        except (
            OSError,
            TaskFault,
            ReplayError,
            MetricsError,
            checkpoints.CheckpointError,
        ) as error:
            good = checkpoints.last_good(self.folder / "checkpoint")
            raise TrainingError(f"{self.folder}: {error}; {good}") from error

    @property
    def agent(self) -> Agent:
        """The agent as it is now."""
        return self.state.agent

    # Collecting

    def _collect(self) -> None:
        """Step the batch as often as one call's updates are owed."""
        for _ in range(self._steps_per_call):
            actions = self._choose()
            with self.watch("replay"):
                self.replay.append(self._replay_row(actions), self.rows["fault"])
            with self.watch("simulator"):
                self.rows = self.vector.step(to_simulator(self.spec.action, actions))
            self.counters.vector_steps += 1
            # The step after an episode's end is a reset, which costs no env step.
            self.counters.env_steps += int((~self.rows["is_first"]).sum())
            self._record()

    @property
    def _steps_per_call(self) -> int:
        """Steps of the batch after which one call's updates are owed."""
        training = self.study.training
        due = training.updates_per_call * training.env_steps_per_update / self.number
        return max(1, math.ceil(due))

    def _choose(self) -> np.ndarray:
        count = self.counters.vector_steps
        steps = self.counters.env_steps
        if self.prior is not None and steps < self.plan.prior_steps and self.plan.prior:
            with self.watch("policy"):
                return self.prior(self.plan.prior, self.rows, count)
        if steps < self.plan.random_steps or self._random_only():
            mask = self.rows.get(MASK)
            return random_actions(self.spec.action, self.number, self._noise_seed, count, mask)
        # What the heads have not learnt yet cannot be planned for: until then the policy acts.
        plan = self.actor.planner != "none" and self.counters.updates > 0
        kind = "plan" if plan else "act"
        with self.watch("policy" if kind in self._compiled else "compile"):
            self._compiled.add(kind)
            return self.actor(
                self.acting,
                self.rows,
                count,
                bonus_weight=self._bonus_weight(),
                plan=plan,
                temperature=self._temperature(),
            )

    def _bonus_weight(self) -> np.float32 | float | None:
        """What a planner is to want while collecting: what the policy learns to want at present."""
        if self.plan.stage == "explore":
            return None
        if self.agent.explorer is None or self.actor.planner == "none":
            return 0.0
        return np.float32(faded(self.study.curiosity, self.planned, self.counters.updates))

    def _temperature(self) -> np.float32 | None:
        """Of the search that collects, where it changes while training."""
        search = self.study.planning.search
        if search.temperature_end is None:
            return None
        return np.float32(cooled(search, self.planned, self.counters.updates))

    def _random_only(self) -> bool:
        return self.plan.stage == "explore" and self.agent.explorer is None

    def _replay_row(self, actions: np.ndarray) -> dict[str, np.ndarray]:
        row = {name: self.rows[name] for name in self._kept}
        read = self.plan.stage != "explore"  # exploration's rewards are never read
        row["reward"] = self.rows["reward"] if read else np.zeros_like(self.rows["reward"])
        self._check_reach(row["reward"])
        row |= {name: self.rows[name] for name in ("is_first", "is_last", "is_terminal")}
        row["action"] = actions.astype(np.float32)
        return row

    def _check_reach(self, rewards: np.ndarray) -> None:
        """Say once per process that rewards lie beyond the bins, where they are cut off."""
        largest = float(np.abs(rewards).max())
        reach = self.study.model.bin_reach
        if self._beyond or largest <= math.expm1(reach):
            return
        self._beyond = True
        logger.warning(
            "task %s, seed %d, env step %d: a reward of size %.6g is cut off at %.6g; "
            "set model.bin_reach = %.1f or more (now %.6g)",
            self.plan.task,
            self.plan.seed,
            self.counters.env_steps,
            largest,
            math.expm1(reach),
            math.ceil(10 * math.log1p(largest)) / 10,
            reach,
        )

    def _record(self) -> None:
        if self.coverage is not None:
            self.coverage.add(self.rows["log/position"])
        for record in self.episodes.add(self.rows):
            random = self.counters.env_steps <= self.plan.random_steps or self._random_only()
            self.metrics.write("episode", **self.count(), **record, random=random)
            self.recent = [*self.recent[-(2 * self.number - 1) :], record]

    # Learning

    def _learn(self) -> None:
        counters, training = self.counters, self.study.training
        if not self.plan.learns:
            return
        if counters.learning_start < 0:
            enough = counters.env_steps >= max(training.prefill_steps, 1)
            if not (enough and self.replay.ready(training.batch_length)):
                return
            counters.learning_start = counters.env_steps
        owed = (counters.env_steps - counters.learning_start) / training.env_steps_per_update
        while owed - counters.updates >= training.updates_per_call:
            self._train()

    def _train(self) -> None:
        batches, drawn = self._ahead.result() if self._ahead else self._draw(self.counters.updates)
        self._ahead = None
        kind = "update" if "update" in self._compiled else "compile"
        self._compiled.add("update")
        with self.watch(kind):
            self._settle_pending()
            self.state, metrics = self.step(self.state, batches, self.update_key)
            self._pending = metrics, drawn
        before = self.counters.updates
        self.counters.updates += self.study.training.updates_per_call
        if self.study.training.overlap:
            # Buffers are donated to the next call, so whoever acts meanwhile keeps a copy.
            self.acting = jax.tree.map(
                lambda x: jnp.copy(x) if eqx.is_array(x) else x, self.state.agent
            )
            self._ahead = self._pool.submit(self._draw, self.counters.updates)
        else:
            with self.watch(kind):
                self._settle_pending()
            self.acting = self.state.agent
        if before // UPDATES_PER_ROW != self.counters.updates // UPDATES_PER_ROW:
            self._write_rows()

    def _draw(self, number: int) -> tuple[dict[str, jax.Array], Drawn | None]:
        """Batches of one call, a function of (seed, number of the update) and the replay."""
        with self.watch("replay"):
            batches, drawn = self.batches.draw(self.replay, number)
            return place(batches), drawn

    def _settle_pending(self) -> None:
        """Wait for the last call, let the replay know what it learnt, and refuse to go on from
        not-a-number."""
        if self._pending is None:
            return
        metrics, drawn = self._pending
        self._pending = None
        errors = metrics.pop(ERRORS, None)
        if drawn is not None and errors is not None:
            self.replay.learnt(drawn, np.asarray(errors)[:, : drawn.start.shape[1]])
        self.last_metrics = {name: float(value) for name, value in metrics.items()}
        for name, value in self.last_metrics.items():
            watched = name.startswith(("loss/", "gradient/"))
            if watched and not math.isfinite(value):
                good = checkpoints.last_good(self.folder / "checkpoint")
                raise TrainingError(
                    f"{self.folder}: {name} is {value} at update {self.counters.updates}; {good}"
                )

    # Recording

    def count(self) -> dict[str, int]:
        """The counters that stand on every row of the metrics."""
        return {"env_steps": self.counters.env_steps, "updates": self.counters.updates}

    def _write_rows(self) -> None:
        steps = max(self.counters.env_steps, 1)
        training = self.study.training
        trained = self.counters.updates * training.batch_size * training.batch_length
        self.metrics.write(
            "train",
            **self.count(),
            frames=self.counters.env_steps * self.study.tasks.action_repeat,
            replay_ratio=trained / steps,
            **self.last_metrics,
        )
        self.metrics.write("time", **self.count(), **self.watch.table())

    def _points(self) -> None:
        """Call `at_point` for every point that has come due."""
        if self.plan.updates:
            return
        spacing = self.plan.steps / max(self.plan.points, 1)
        while self.counters.points * spacing <= self.counters.env_steps:
            if self.counters.points > self.plan.points:
                break
            with self.watch("evaluation"):
                self._settle_pending()
                self.at_point(self)
            self.counters.points += 1

    # Going on

    def _begin(self) -> None:
        """Start afresh, or from the last checkpoint that can be read."""
        self.replay = self._empty_replay()
        damaged: list[Path] = []
        errors: list[Exception] = []
        for found in checkpoints.whole(self.folder / "checkpoint"):
            try:
                self._restore(found)
            except (checkpoints.CheckpointError, ReplayError, MetricsError) as error:
                damaged.append(found)
                errors.append(error)
                continue
            for checkpoint, error in zip(damaged, errors, strict=True):
                logger.warning("%s; going on from %s, the last good one", error, found)
                checkpoints.set_aside(checkpoint)
            return
        if errors:
            raise errors[0]
        self._open_metrics(0)
        self.watch = Stopwatch()
        self.rows = self.vector.reset()
        self.replay = self._empty_replay()
        self.replay.check(self.study.training.batch_length)
        self.replay.restore(*self.replay.state())  # removes what an earlier try left behind
        self.episodes.add(self.rows)

    def _restore(self, found: Path) -> None:
        """Take up a checkpoint; whatever is damaged is noticed before anything is changed."""
        like = {"state": _without_components(self.state), "memory": self.actor.memory}
        if self.prior is not None:
            like["prior"] = self.prior.memory
        arrays, progress, tails = checkpoints.restore_training(found, like)
        agent = checkpoints.restore_agent(found, self.state.agent)
        self._open_metrics(progress["metrics_bytes"])
        self.replay.restore(progress["replay"], tails, others=_other_replays(found))
        self.state = eqx.combine(arrays["state"], self.state)
        self.state = eqx.tree_at(lambda s: s.agent, self.state, agent)
        self.acting = self.state.agent
        self.actor.memory = arrays["memory"]
        if self.prior is not None:
            self.prior.memory = arrays["prior"]
        self.counters = Counters(**progress["counters"])
        self.watch = Stopwatch(progress["seconds"])
        self.last_metrics = progress["last_metrics"]
        self.episodes.restore(progress["episodes"])
        with self.watch("simulator"):
            self.rows = self.vector.restore(progress["vector"])
        self.episodes.restart(self.rows["is_first"])  # an episode may be lost on the way
        self.recent = progress["recent"]
        if self.coverage is not None:
            self.coverage.visited = set(progress["coverage"])

    def _save(self) -> None:
        """Write a checkpoint that holds all that is needed to go on."""
        with self.watch("checkpoint"):
            self._settle_pending()
            table, tails = self.replay.state()
            training = {
                "state": _without_components(self.state),
                "memory": self.actor.memory,
            }
            if self.prior is not None:
                training["prior"] = self.prior.memory
            progress = {
                "counters": vars(self.counters),
                "metrics_bytes": self.metrics.size(),
                "seconds": self.watch.state(),
                "last_metrics": self.last_metrics,
                "vector": plain_snapshot(self.vector.snapshot()),
                "replay": table,
                "episodes": self.episodes.state(),
                "recent": plain(self.recent),
                "coverage": sorted(self.coverage.visited) if self.coverage else [],
            }
            checkpoints.save(
                self.folder / "checkpoint",
                f"updates-{self.counters.updates:09d}-{self.counters.env_steps:09d}",
                self.state.agent.components(),
                training,
                progress,
                tails,
                keep_previous=not self.counters.finished,
            )
            self.replay.forget_gone(keep_previous=not self.counters.finished)

    def _open_metrics(self, keep_bytes: int) -> None:
        self.metrics = Metrics(self.folder / "metrics.jsonl", keep_bytes)
        self._exits.callback(self.metrics.close)

    @property
    def _kept(self) -> tuple[str, ...]:
        """The keys of an observation that are replayed."""
        return (*self.spec.observation, *([MASK] if self.spec.masked else []))

    def _empty_replay(self) -> Replay:
        """A replay for rows as `_replay_row` makes them."""
        rows = empty_rows(self.spec, 1)
        names = (*self._kept, "reward", "is_first", "is_last", "is_terminal")
        row = {name: rows[name][0] for name in names}
        row["action"] = np.zeros(self.spec.action.size, np.float32)
        settings, folder = self.study.replay, self.folder / "replay"
        return Replay(row, self.number, settings, folder, ahead=self._steps_per_call)


def environment_seeds(kind: str, seed: int, number: int) -> list[int]:
    """Seeds of a batch of environments; no two (kind, seed) share one but by chance of 2^-62."""
    digests = (hashlib.sha256(f"{kind}/{seed}/{i}".encode()).digest() for i in range(number))
    return [int.from_bytes(digest[:8], "big") >> 2 for digest in digests]


def plain_snapshot(snapshot: dict[str, Any]) -> dict[str, Any]:
    """A simulator snapshot as JSON can hold it, every digit kept."""
    actions = [np.asarray(a).tolist() for a in snapshot["actions"]]
    return {k: v for k, v in snapshot.items() if k != "actions"} | {"actions": actions}


def _other_replays(found: Path) -> list[dict[str, Any]]:
    """What the other checkpoints beside `found` need of the replay, as far as they can be read."""
    tables = []
    for checkpoint in checkpoints.whole(found.parent):
        with contextlib.suppress(checkpoints.CheckpointError):
            if checkpoint != found:
                tables.append(checkpoints.restore_progress(checkpoint)[0]["replay"])
    return tables


def _without_components(state: TrainingState) -> TrainingState:
    """The training state less the agent, whose components are items of their own."""
    return eqx.tree_at(lambda s: s.agent, state, None)
