"""The typed study: every setting of every stage, with its default and its meaning.

A study file is read into this by `pipeline.settings`; the stages see nothing else.
"""

import math
from typing import Literal

from pydantic import Field

from policies.settings import (
    AgentSettings,
    BehaviourSettings,
    CuriositySettings,
    LearningSettings,
    Planner,
    PlanningSettings,
)
from tasks.settings import Settings, TaskOptions
from world_models.settings import ModelSettings, MuZeroSettings

COMPONENTS = ("encoder", "dynamics", "decoder", "reward_head", "actor", "critic", "explorer")
GROUPS = {
    "world_model": ("encoder", "dynamics", "decoder"),
    "policy": ("encoder", "actor"),
    "curious_policy": ("encoder", "actor", "explorer"),  # no explorer where no curiosity is
}


class TaskSettings(TaskOptions):
    """[tasks]: what is explored, what is transferred to, and what the agent sees."""

    explore: str = Field(description="Task explored; its rewards are never read.")
    transfer: tuple[str, ...] = Field(
        min_length=1, description="Tasks with rewards to transfer to; a split stands for its tasks."
    )
    transfer_limit: int | None = Field(
        default=None, ge=1, description="Use only the first so many transfer tasks; none uses all."
    )


class TrainingSettings(Settings):
    """[training]: collecting and learning, the same in exploration and transfer."""

    environments: int = Field(
        default=8, ge=1, description="Copies of the task stepped as one batch."
    )
    workers: int = Field(
        default=0, ge=0, description="Simulator processes; 0 steps in this process."
    )
    step_timeout: float = Field(
        default=60.0, gt=0, description="Seconds after which a worker counts as hung."
    )
    batch_size: int = Field(default=16, ge=1, description="Sequences per update.")
    batch_length: int = Field(default=32, ge=2, description="Steps per sequence.")
    env_steps_per_update: float = Field(
        default=4.0, ge=0.001, description="Env steps collected for each update (the update ratio)."
    )
    updates_per_call: int = Field(
        default=10, ge=1, description="Updates scanned in one jitted call."
    )
    prefill_steps: int = Field(
        default=800,
        ge=0,
        description="Env steps before the first update; random where no carried actor collects.",
    )
    overlap: bool = Field(
        default=False,
        description="Collect while learning; off alternates strictly and reproducibly.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Compute precision."
    )
    model_learning_rate: float = Field(default=6e-4, gt=0, description="World model.")
    actor_learning_rate: float = Field(default=5e-4, gt=0, description="Actor.")
    critic_learning_rate: float = Field(default=5e-4, gt=0, description="Critic.")
    actor_epsilon: float = Field(
        default=1e-5, gt=0, description="Gradients of the actor below this size move it little."
    )
    gradient_clip: float = Field(
        default=0.3, gt=0, description="Adaptive gradient clipping factor (AGC)."
    )
    warmup_updates: int = Field(default=0, ge=0, description="Linear learning-rate warm-up.")
    checkpoint_minutes: float = Field(default=5.0, gt=0, description="Minutes between checkpoints.")


def planned_updates(training: TrainingSettings, steps: int) -> int:
    """Updates of a job of so many env steps, in whole calls."""
    owed = max(0, steps - training.prefill_steps) / training.env_steps_per_update
    return math.floor(owed / training.updates_per_call) * training.updates_per_call


class ReplaySettings(Settings):
    """[replay]: sequences in host memory, then in memory-mapped files."""

    memory_gib: float = Field(
        default=1.0, gt=0, le=1e6, description="Host memory before spilling to disk, GiB."
    )
    disk_gib: float = Field(
        default=8.0, gt=0, le=1e6, description="Disk for full chunks; then the oldest go."
    )
    chunk: int = Field(default=256, ge=8, description="Steps per chunk.")
    priority: float = Field(
        default=0.0,
        ge=0,
        le=4,
        description="Sequences are drawn by the errors of their values to this power (`muzero`, "
        "`simulator` and `none`); 0 draws all alike.",
    )
    importance: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="How far weights of the losses make up for that: 1 wholly, 0 not at all.",
    )


class ExploreSettings(Settings):
    """[explore]: reward-free exploration."""

    steps: int = Field(default=16_000, ge=0, description="Env steps; 0 leaves exploration out.")


class Arm(Settings):
    """One row of [transfer.arms]: what is carried over, and the controls.

    An arm that carries the explorer stays curious: its bonus enters what it learns to want.
    """

    carry: tuple[str, ...] = Field(default=(), description="Components or groups carried over.")
    prior_steps: int = Field(
        default=0, ge=0, description="First env steps collected by the frozen exploration agent."
    )
    replay_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of each batch drawn from the exploration's replay.",
    )
    equal_total: bool = Field(
        default=False, description="Also gets the exploration's env steps, as more fine-tuning."
    )
    relabelled_updates: int = Field(
        default=0,
        ge=0,
        description="Updates on the exploration's replay, paid as the task would have paid, in the "
        "place of all env steps; 0 fine-tunes.",
    )
    learn: tuple[str, ...] = Field(
        default=("reward_head",), description="Components that those updates change."
    )
    evaluate: Planner | None = Field(
        default=None, description="Who plans at its evaluation, in place of planning.evaluate."
    )

    @property
    def components(self) -> tuple[str, ...]:
        """The carried components, groups written out, in canonical order."""
        names = {part for name in self.carry for part in GROUPS.get(name, (name,))}
        return tuple(name for name in COMPONENTS if name in names)

    @property
    def curious(self) -> bool:
        """Whether it carries the explorer."""
        return "explorer" in self.components


def _default_arms() -> dict[str, Arm]:
    return {
        "scratch": Arm(),
        "model": Arm(carry=("world_model",)),
        "policy": Arm(carry=("curious_policy",)),
        "both": Arm(carry=("world_model", "curious_policy")),
    }


class TransferSettings(Settings):
    """[transfer]: fine-tuning with the task's rewards."""

    steps: int = Field(default=6_000, ge=1, description="Env steps of fine-tuning.")
    arms: dict[str, Arm] = Field(default_factory=_default_arms, min_length=1)


class EvaluateSettings(Settings):
    """[evaluate]: fresh episodes on fixed seeds that training never uses."""

    episodes: int = Field(
        default=32, ge=1, description="Episodes of the zero-shot and final evaluation."
    )
    curve_points: int = Field(
        default=10, ge=1, description="Evaluations along the fine-tuning curve."
    )
    curve_episodes: int = Field(default=16, ge=1, description="Episodes per point of the curve.")
    environments: int = Field(
        default=16, ge=1, description="Copies of the task stepped as one batch."
    )
    planners: tuple[str, ...] = Field(
        default=(),
        description="Planners by which every arm's final agent is evaluated once more, on the same "
        "episodes, beside the one of planning.evaluate. Nothing is trained for it. `none`, `cem`, "
        "`mppi`, `mcts`, or with a size: `mcts-16` has 16 simulations, `cem-256` 256 samples. "
        "`mcts-16@simulator` searches in the task's own step (maze, `muzero`).",
    )
    video_episodes: int = Field(default=2, ge=0, description="Episodes filmed; 0 makes no videos.")
    video_steps: int = Field(default=200, ge=2, description="Longest film, in agent steps.")


class Study(Settings):
    """One study without variants: everything a job needs to know."""

    name: str = Field(
        min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="The study's name."
    )
    seeds: int | tuple[int, ...] = Field(
        default=3, description="How many seeds, or the seeds themselves."
    )
    tasks: TaskSettings
    agent: AgentSettings = AgentSettings()
    model: ModelSettings = ModelSettings()
    muzero: MuZeroSettings = MuZeroSettings()
    behaviour: BehaviourSettings = BehaviourSettings()
    learning: LearningSettings = LearningSettings()
    curiosity: CuriositySettings = CuriositySettings()
    planning: PlanningSettings = PlanningSettings()
    training: TrainingSettings = TrainingSettings()
    replay: ReplaySettings = ReplaySettings()
    explore: ExploreSettings = ExploreSettings()
    transfer: TransferSettings = TransferSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    def evaluated_by(self, arm: str) -> Planner:
        """Who plans when an arm, or a reference, is evaluated."""
        row = self.transfer.arms.get(arm)
        return (row.evaluate if row else None) or self.planning.evaluate

    def also_evaluated_by(self, arm: str) -> tuple[str, ...]:
        """Who else plans at evaluations of an arm's final agent, apart from its main one; names as
        in `policies.planner_names`."""
        main = self.evaluated_by(arm)
        return tuple(name for name in self.evaluate.planners if name != main)

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, written out."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
