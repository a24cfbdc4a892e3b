"""Evaluate: fresh episodes on fixed seeds, before the first update and after the last one."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.agent import Agent
from policies.muzero import MuZeroAgent
from policies.planner_names import evaluated, parse
from policies.settings import Planner
from policies.simulated import SimulatorAgent, in_the_simulator
from stages import checkpoints, durable
from stages.explore import fresh_agent
from stages.metrics import Progress, plain
from stages.records import PLANNED, PLANNED_SEEN, SEEN
from stages.rollout import AgentChooser, Examination, Film
from stages.settings import Study
from stages.videos import write_video
from tasks import registry
from tasks.contract import TaskSpec

REFERENCES = ("random", "oracle")


@dataclass(frozen=True)
class Inputs:
    """A transfer's folder, or a reference (`random`, `oracle`) in the place of an arm.

    With a `planner` (a name as in `policies.planner_names`) the final agent is evaluated once more,
    with that planner and nothing else.
    """

    task: str
    arm: str
    seed: int
    transfer: Path | None = None
    planner: str | None = None


def run(study: Study, inputs: Inputs, folder: Path) -> Path:
    """Write `episodes.jsonl` and `video.mp4`; every arm, seed and planner meets the same episodes.

    They are on unseen levels where `tasks.levels` is set, and once more on those of the training.
    An evaluation beside the main one (`evaluate.planners`) makes no film.

    Raises:
        CheckpointError: the transfer has left no checkpoint.
    """
    spec = registry.spec(inputs.task, study.tasks)
    if inputs.planner is not None:
        labels = {"checkpoint": PLANNED}
    else:
        labels = {"start": "start", "checkpoint": "final"}
    planner = inputs.planner or study.evaluated_by(inputs.arm)
    study = study.model_copy(update={"planning": evaluated(planner, study.planning)})
    acting = study.planning.evaluate
    episodes = study.evaluate.episodes
    exam = Examination(study, inputs.task, spec, "evaluate", episodes)
    rows: list[dict[str, Any]] = []
    progress = Progress(folder, "evaluate", len(labels) * episodes, "episodes")
    agent: Agent | None = None
    try:
        if inputs.arm in REFERENCES:
            records = exam.run(getattr(exam, f"{inputs.arm}_chooser")())
            rows += _rows(spec, inputs, inputs.arm, inputs.arm, records)
        else:
            for which, label in labels.items():
                agent = load_agent(study, spec, inputs, which)
                if parse(planner).model is not None:
                    agent = _in_the_simulator(study, spec, agent)
                records = exam.run(_chooser(exam, agent, inputs, acting))
                rows += _rows(spec, inputs, label, planner, records)
                progress.show(len(rows))
    finally:
        exam.close()
    if agent is not None and study.tasks.levels is not None:
        records = _on_seen_levels(study, spec, inputs, agent)
        label = SEEN if inputs.planner is None else PLANNED_SEEN
        rows += _rows(spec, inputs, label, planner, records)
    if inputs.planner is None:
        _film(study, spec, inputs, agent, folder)
    write_lines(folder / "episodes.jsonl", rows)
    progress.show(progress.total)
    return folder


def _chooser(exam: Examination, agent: Agent, inputs: Inputs, planner: Planner) -> AgentChooser:
    greedy = exam.spec.action.kind == "continuous"
    return exam.agent_chooser(agent, inputs.seed, planner, greedy, expecting=True)


def _rows(
    spec: TaskSpec, inputs: Inputs, checkpoint: str, planner: str, records: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    frame = {
        "seed": inputs.seed,
        "checkpoint": checkpoint,
        "planner": planner,
        "metric": spec.metric,
    }
    return [frame | record for record in records]


def load_agent(study: Study, spec: TaskSpec, inputs: Inputs, which: str) -> Agent:
    """The agent at the start (`start`) or at the end (`checkpoint`) of its transfer.

    Raises:
        CheckpointError: there is none, or it is another agent's.
    """
    if inputs.transfer is None:
        raise checkpoints.CheckpointError(f"arm {inputs.arm!r} of {inputs.task}: no transfer given")
    source = inputs.transfer / which
    curious = study.transfer.arms[inputs.arm].curious
    agent = fresh_agent(study, spec, inputs.seed, "transfer", curious=curious)
    return checkpoints.restore_agent(source, agent)


def _in_the_simulator(study: Study, spec: TaskSpec, agent: Agent) -> Agent:
    """The agent with the task's own step in the place of its model."""
    settings = study.agent.model_copy(update={"world_model": "simulator"})
    of = study.model_copy(update={"agent": settings})
    like = fresh_agent(of, spec, 0, "transfer", curious=False)
    assert isinstance(agent, MuZeroAgent), "checked with the study"
    assert isinstance(like, SimulatorAgent), "asked for"
    return in_the_simulator(agent, like)


def _on_seen_levels(
    study: Study, spec: TaskSpec, inputs: Inputs, agent: Agent
) -> list[dict[str, Any]]:
    episodes = study.evaluate.episodes
    exam = Examination(study, inputs.task, spec, "evaluate", episodes, seen=True)
    try:
        return exam.run(_chooser(exam, agent, inputs, study.planning.evaluate))
    finally:
        exam.close()


def _film(study: Study, spec: TaskSpec, inputs: Inputs, agent: Agent | None, folder: Path) -> None:
    """Film the first evaluation episodes over again, so that only these are rendered."""
    settings = study.evaluate
    if settings.video_episodes == 0:
        return
    number = min(settings.video_episodes, settings.episodes, settings.environments)
    exam = Examination(study, inputs.task, spec, "evaluate", number)
    film = Film(settings.video_steps)
    try:
        if agent is None:
            choose = getattr(exam, f"{inputs.arm}_chooser")()
        else:
            choose = _chooser(exam, agent, inputs, study.planning.evaluate)
        exam.run(choose, film, steps=min(settings.video_steps, spec.episode_length or 10**6))
    finally:
        exam.close()
    frames = [frame for episode in film.frames for frame in episode]
    write_video(folder / "video.mp4", frames, spec.control_hz)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines at once, so that a file is whole or absent."""
    durable.write(path, "".join(json.dumps(plain(row)) + "\n" for row in rows))
