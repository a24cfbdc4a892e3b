"""Transfer: carry some components of an exploration to a task with rewards, and fine-tune."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policies.agent import Agent
from stages import checkpoints
from stages.explore import fresh_agent
from stages.open_loop import HeldOut
from stages.replay import Replay, ReplayError
from stages.rollout import Examination
from stages.scores import value_of
from stages.settings import Arm, Study
from stages.training_loop import Plan, TrainingLoop
from tasks import registry
from tasks.contract import TaskError, TaskSpec

HELD_OUT_EPISODES = 4
PRIOR = ("encoder", "dynamics", "actor")  # what the frozen exploration agent needs to act


@dataclass(frozen=True)
class Inputs:
    """Which row of the study, and where the exploration lies (job folder or checkpoint)."""

    task: str
    arm: str
    seed: int
    exploration: Path | None = None


def run(study: Study, inputs: Inputs, folder: Path) -> Path:
    """Fine-tune one arm on one task; leaves `start/`, a checkpoint, and the curve in the metrics.

    Raises:
        CheckpointError: the exploration lacks a component, or was made by another agent.
    """
    arm = study.transfer.arms[inputs.arm]
    spec = registry.spec(inputs.task, study.tasks)
    agent = starting_agent(study, spec, arm, inputs)
    if checkpoints.latest(folder / "start") is None:
        checkpoints.save(folder / "start", "updates-000000000", agent.components())
    points = study.evaluate.curve_points
    exam = Examination(study, inputs.task, spec, "curve", study.evaluate.curve_episodes)

    # A curve is the policy's own; who has no curve is judged as at the evaluation.
    planner = study.evaluated_by(inputs.arm) if arm.relabelled_updates else "none"

    def evaluate(loop: TrainingLoop) -> None:
        greedy = spec.action.kind == "continuous"
        records = exam.run(exam.agent_chooser(loop.agent, inputs.seed, planner, greedy))
        loop.metrics.write("evaluation", **loop.count(), **summary(spec, records))

    try:
        plan = plan_of(study, spec, arm, inputs, points, folder)
        state = TrainingLoop(study, spec, agent, plan, folder, evaluate).run()
    finally:
        exam.close()
    if not state.agent.foresees:
        return folder
    held_out = Examination(study, inputs.task, spec, "held-out", HELD_OUT_EPISODES)
    try:
        HeldOut(held_out).save(state.agent, folder)
    finally:
        held_out.close()
    return folder


def starting_agent(study: Study, spec: TaskSpec, arm: Arm, inputs: Inputs) -> Agent:
    """A fresh agent with the arm's components put in from the exploration.

    With a carried explorer it stays curious: its bonus enters what the arm learns to want.
    """
    agent = fresh_agent(study, spec, inputs.seed, "transfer", curious=arm.curious)
    if not arm.components:
        return agent
    return checkpoints.restore_agent(_exploration(inputs), agent, arm.components)


def plan_of(
    study: Study, spec: TaskSpec, arm: Arm, inputs: Inputs, points: int, folder: Path
) -> Plan:
    """The training plan of an arm.

    Random env steps come first unless a carried actor can collect them with a carried encoder, or
    the frozen exploration agent does.
    """
    carried = {"encoder", "actor"} <= set(arm.components)
    extra = study.explore.steps if arm.equal_total else 0
    if arm.relabelled_updates:
        return Plan(
            stage="transfer",
            task=inputs.task,
            seed=inputs.seed,
            steps=0,
            random_steps=0,
            points=0,
            rehearsal=_relabelled(study, inputs, folder),
            updates=arm.relabelled_updates,
            learn=arm.learn,
        )
    return Plan(
        stage="transfer",
        task=inputs.task,
        seed=inputs.seed,
        steps=study.transfer.steps + extra,
        random_steps=0 if carried or arm.prior_steps else study.training.prefill_steps,
        points=points,
        prior=_prior(study, spec, inputs) if arm.prior_steps else None,
        prior_steps=arm.prior_steps,
        rehearsal=_rehearsal(study, inputs, folder) if arm.replay_share else None,
        rehearsal_share=arm.replay_share,
    )


def summary(spec: TaskSpec, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean return, success and value of some episodes, and Crafter's score where it applies."""
    row = {
        "episodes": len(records),
        "return": float(np.mean([r["return"] for r in records])),
        "success": float(np.mean([r["success"] for r in records])),
        "score": None,
    }
    if spec.metric == "score":
        row["score"] = value_of(records, "score")
    return row | {"value": row[spec.metric]}


def _exploration(inputs: Inputs) -> Path:
    if inputs.exploration is None:
        raise checkpoints.CheckpointError(
            f"arm {inputs.arm!r} carries components but there is no exploration: set explore.steps "
            "above 0 or name one with --from"
        )
    return inputs.exploration


def _prior(study: Study, spec: TaskSpec, inputs: Inputs) -> Agent:
    """The whole exploration agent, as far as acting needs it."""
    agent = fresh_agent(study, spec, inputs.seed, "transfer", curious=False)
    return checkpoints.restore_agent(_exploration(inputs), agent, PRIOR)


def _rehearsal(study: Study, inputs: Inputs, folder: Path) -> Replay:
    """The exploration's replay, to be drawn from beside the task's own."""
    found = checkpoints.find(_exploration(inputs))
    job = found.parent.parent
    progress, tails = checkpoints.restore_progress(found)
    table = progress["replay"]
    example = {name: np.zeros(*_shape(tails.dtype[name])) for name in tails.dtype.names or ()}
    replay = Replay(example, len(table["streams"]), study.replay, job / "replay")
    try:
        # the files belong to the exploration, which may even be still at work
        replay.restore(table, tails, clean=False)
    except ReplayError as error:
        raise checkpoints.CheckpointError(f"{found}: its replay cannot be used: {error}") from error
    return replay


def _relabelled(study: Study, inputs: Inputs, folder: Path) -> Replay:
    """The exploration's replay, with the rewards that the task would have paid."""
    label = registry.extras(inputs.task, study.tasks).relabel
    if label is None:
        raise TaskError(f"task {inputs.task} does not tell what recorded steps would have paid")
    replay = _rehearsal(study, inputs, folder)
    replay.relabel(label)
    return replay


def _shape(dtype: np.dtype) -> tuple[tuple[int, ...], np.dtype]:
    return dtype.shape, dtype.base
