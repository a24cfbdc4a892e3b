"""Rolling out an agent that a run has trained, with any planner, and filming it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from policies.agent import Memory
from stages import checkpoints, durable
from stages.acting import AgentActor, Rows
from stages.explore import fresh_agent
from stages.goals import Goal, approach, read_goal, shown_goal
from stages.plan_pictures import below, places_of, plan_picture
from stages.plans import NOT_SEEN, first, seen_plans
from stages.realtime import Calibration, Timed, calibrate, latency
from stages.rollout import Examination, Film
from stages.settings import Study
from stages.videos import write_video
from tasks import registry

LONGEST = 1000  # steps filmed; longer episodes are cut
SAMPLED = ("samples", "elites", "iterations", "horizon")
SIZES = {"cem": SAMPLED, "mppi": SAMPLED, "mcts": ("simulations", "depth", "actions")}


@dataclass(frozen=True)
class Cast:
    """Whom to watch: the agent of a checkpoint that a stage left, in one of its tasks."""

    task: str
    seed: int
    source: Path
    stage: Literal["explore", "transfer"]
    curious: bool


@dataclass
class Seen:
    """Chooses actions, and keeps what the agent saw and what it made of it."""

    timed: Timed
    actor: AgentActor
    rows: list[dict[str, np.ndarray]] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)  # after each row

    def __call__(self, rows: Rows, count: int) -> np.ndarray:
        self.rows.append(self.alone(rows))
        actions = self.timed(rows, count)
        self.memories.append(self.actor.memory)
        return actions

    def alone(self, rows: Rows) -> dict[str, np.ndarray]:
        """The observation and the other parts that are kept of the first environment's row."""
        names = (*self.actor.keys, *(name for name in NOT_SEEN if name in rows))
        return {name: np.array(rows[name][0]) for name in names}

    def stacked(self) -> dict[str, np.ndarray]:
        """The observations of the episode, [T, ...]."""
        return {name: np.stack([row[name] for row in self.rows]) for name in self.actor.keys}

    def episode(self, ended: Rows) -> list[dict[str, np.ndarray]]:
        """The rows of the first episode up to its last; `ended` came after all that were seen."""
        rows = [*self.rows, self.alone(ended)]
        last = next((i for i, row in enumerate(rows) if row["is_last"]), len(rows) - 1)
        return rows[: last + 1]


def watch(
    study: Study,
    cast: Cast,
    out: Path,
    *,
    hz: float | None = None,
    goal: str | None = None,
    plans: bool = False,
) -> dict[str, Any]:
    """Film the first evaluation episode of an agent; returns what happened.

    Args:
        study: its `planning.evaluate` and `planning` say who plans, and how.
        hz: control steps per second; the samples of `cem` and `mppi` are chosen for it on this
            device, other planners are only timed.
        goal: what the planner is to come to (see `stages.goals`); without it an exploration's agent
            wants its bonus, any other the task's reward.
        plans: draw what `cem` or `mppi` saw: a picture beside the film, a strip below its frames.

    Raises:
        CheckpointError: the agent is not there, or is another one.
        TaskError: the goal cannot be used.
    """
    spec = registry.spec(cast.task, study.tasks)
    planner, settings = study.planning.evaluate, study.planning
    alone = study.evaluate.model_copy(update={"environments": 1})
    study = study.model_copy(update={"evaluate": alone})
    exam = Examination(study, cast.task, spec, "evaluate", 1)
    options = registry.unseen(study.tasks)
    wants: dict[str, Any] = {"bonus_weight": None if cast.stage == "explore" else 0.0}
    shown: Goal | None = None
    film = Film(LONGEST)
    try:
        if goal is not None:  # first, since loading takes longer than to see a mistake
            shown = read_goal(goal, spec, options, exam.episode_seed())
        agent = fresh_agent(study, spec, cast.seed, cast.stage, curious=cast.curious)
        agent = checkpoints.restore_agent(cast.source, agent)
        if shown is not None:
            wants["goal"] = shown_goal(agent, shown)
        calibration: Calibration | None = None
        if hz is not None and SIZES.get(planner) == SAMPLED:
            calibration = calibrate(settings, hz, lambda s: latency(spec, agent, planner, s, wants))
            settings = calibration.settings
        else:  # so that compiling is no step's latency
            latency(spec, agent, planner, settings, wants)
        greedy = spec.action.kind == "continuous"
        actor = exam.agent_actor(agent, cast.seed, planner, greedy, settings)
        timed = Timed(lambda rows, count: actor(agent, rows, count, **wants))
        seen = Seen(timed, actor)
        long = spec.episode_length is None or spec.episode_length > LONGEST
        records = exam.run(seen, film, steps=LONGEST if long else None)
    finally:
        exam.close()
    frames = beside([frame for episode in film.frames for frame in episode], shown)
    told: dict[str, Any] = {}
    if plans:
        episode, kept = seen.episode(exam.ended), seen.memories
        found = seen_plans(agent, actor, episode, kept, settings, greedy=greedy, wants=wants)
        frames = below(frames, found)
        picture = out.with_suffix(".plans.svg")
        durable.write(picture, plan_picture(found, places_of(found, spec.name, options)))
        told = found.summary() | {"plans": str(picture)}
    write_video(out, frames, hz or spec.control_hz)
    row: dict[str, Any] = {"planner": planner, "steps": len(timed.seconds)}
    sizes = settings.search if planner == "mcts" else settings
    row |= {name: getattr(sizes, name) for name in SIZES.get(planner, ())}
    if calibration is not None:
        row["calibrated_ms"] = round(1e3 * calibration.seconds, 3)
        row["holds"] = calibration.holds
    for name in ("return", "success"):
        row[name] = records[0][name] if records else None
    if shown is not None:
        states = [agent.model.root(first(memory.state)) for memory in seen.memories]
        near = approach(agent, wants["goal"], shown, states, seen.stacked(), spec, options)
        shown.save(out.with_suffix(".goal.npz"))
        row |= {"goal": goal} | near
    return row | timed.summary(hz) | told | {"video": str(out) if frames else None}


def beside(frames: Sequence[np.ndarray], goal: Goal | None) -> list[np.ndarray]:
    """The frames with the goal's, if there is one, on their right."""
    if goal is None or goal.frame is None or not frames or goal.frame.shape != frames[0].shape:
        return list(frames)
    return [np.concatenate([frame, goal.frame], 1) for frame in frames]
