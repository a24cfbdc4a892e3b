"""Explore: learn a world model and an exploration policy without ever reading a reward."""

from dataclasses import dataclass
from pathlib import Path

from policies.agent import Agent, build_agent
from stages.open_loop import HeldOut
from stages.rollout import Examination
from stages.settings import Study
from stages.training_loop import Plan, TrainingLoop
from tasks import registry
from tasks.contract import TaskSpec

HEALTH_POINTS = 10
HELD_OUT_EPISODES = 4


@dataclass(frozen=True)
class Inputs:
    """Which exploration: a seed's, or the random policy's that it is compared with."""

    seed: int
    random: bool = False


def run(study: Study, inputs: Inputs, folder: Path) -> Path:
    """Explore `tasks.explore`; leaves metrics, a checkpoint and the model's open-loop prediction.

    A random run learns nothing: it gives the baseline of coverage and of what was moved.
    """
    task = study.tasks.explore
    if inputs.random:
        study = study.model_copy(
            update={"agent": study.agent.model_copy(update={"curiosity": "none"})}
        )
    spec = registry.spec(task, study.tasks)
    agent = fresh_agent(_exploring(study), spec, inputs.seed, "explore", curious=True)
    exam = Examination(study, task, spec, "held-out", HELD_OUT_EPISODES)
    held_out = HeldOut(exam)
    acts = study.agent.curiosity != "none"

    def health(loop: TrainingLoop) -> None:
        row: dict[str, object] = {
            "coverage": loop.coverage.share() if loop.coverage else None,
            "moved": moved_shares(spec, loop),
            "bonus": loop.last_metrics.get("bonus/size"),
        }
        if not inputs.random and loop.agent.foresees:
            episodes = held_out.collect(loop.agent if acts else None)
            error, baseline = held_out.errors(loop.agent, episodes)
            row |= {"model_error": error, "model_error_baseline": baseline}
        loop.metrics.write("health", **loop.count(), **row)

    plan = Plan(
        stage="explore",
        task=task,
        seed=inputs.seed,
        steps=study.explore.steps,
        random_steps=study.training.prefill_steps,
        points=HEALTH_POINTS,
        learns=not inputs.random,
    )
    try:
        state = TrainingLoop(study, spec, agent, plan, folder, health).run()
        if not inputs.random and state.agent.foresees:
            held_out.save(state.agent, folder)
    finally:
        exam.close()
    return folder


def _exploring(study: Study) -> Study:
    """The study with the exploration's own weight of entropy: what is wanted is not a task."""
    behaviour = study.behaviour.model_copy(update={"entropy": study.curiosity.entropy})
    return study.model_copy(update={"behaviour": behaviour})


def fresh_agent(study: Study, spec: TaskSpec, seed: int, stage: str, *, curious: bool) -> Agent:
    """A fresh agent of the study's settings."""
    return build_agent(
        spec,
        study.agent,
        study.model,
        study.behaviour,
        study.curiosity,
        study.muzero,
        study.learning,
        study.planning,
        seed=seed,
        stage=stage,
        curious=curious,
    )


def moved_shares(spec: TaskSpec, loop: TrainingLoop) -> dict[str, float]:
    """Share of recent episodes in which each object moved."""
    number = max(len(loop.recent), 1)
    return {
        name: sum(name in record.get("moved", ()) for record in loop.recent) / number
        for name in spec.objects
    }
