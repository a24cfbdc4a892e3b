"""The schema of `results.json` (documented in docs/results-schema.md).

Every number is finite; what is unknown is null.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.contract import Metric

Interval = tuple[float, float] | None


class Result(BaseModel):
    """Closed to unknown keys and to numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SeedResult(Result):
    """One seed of one arm, in the unit of the task's metric. No times: equal runs, equal rows."""

    seed: int
    zero_shot: float | None = Field(description="Before the first update.")
    final: float | None = Field(description="After fine-tuning.")
    area_under_curve: float | None = Field(description="Mean height of the fine-tuning curve.")


class CurvePoint(Result):
    """One evaluation along the fine-tuning curve, over seeds."""

    env_steps: int
    iqm: float
    interval: Interval
    seeds: int


class SeenResult(Result):
    """The final agent on the levels that it was trained on, where `tasks.levels` is set."""

    iqm: float
    interval: Interval
    by_seed: dict[int, float]


class Foresight(Result):
    """What who acted expected at an episode's first observation, against what came of it.

    Both are discounted returns, means over the episodes of each seed and then over seeds.
    """

    expected: float = Field(description="By the critic, or by the plan where there is one.")
    achieved: float
    excess: float = Field(description="Expected less achieved: above 0 is overestimation.")
    interval: Interval = Field(description="Of the excess.")
    by_seed: dict[int, float] = Field(description="Each seed's excess.")


class Effect(Result):
    """A paired contrast: its mean over seeds and each seed's own value."""

    value: float
    interval: Interval
    by_seed: list[float]


class PlannerResult(Result):
    """The final agents of one arm, acting by one planner."""

    kind: str = Field(description="The planner, whose name may have its size behind it.")
    size: int | None = Field(
        description="Simulations of a tree search, samples of the others; 0 is the policy alone. "
        "Null where the run does not tell."
    )
    model: str | None = Field(
        None, description="What it plans in: `simulator`, or null for the agent's own model."
    )
    iqm: float
    interval: Interval
    by_seed: dict[int, float]
    episodes: int
    seen: SeenResult | None = Field(None, description="On the levels of the training.")
    foresight: Foresight | None = Field(None, description="Null where episodes do not tell.")
    gain: Effect | None = Field(
        None, description="Over the main planner, each agent with itself; null for the main one."
    )


class ArmResult(Result):
    """One arm on one task."""

    carry: list[str] = Field(description="Components carried over.")
    seeds: list[SeedResult]
    iqm: float | None = Field(description="Interquartile mean of the seeds' final values.")
    interval: Interval = Field(description="95 % bootstrap; null below two seeds.")
    seen: SeenResult | None = Field(None, description="On the levels of the training.")
    planners: dict[str, PlannerResult] = Field(
        default_factory=dict,
        description="By who planned at the evaluation: the main planner, then `evaluate.planners`.",
    )
    area_under_curve: float | None = Field(description="Interquartile mean over seeds.")
    area_under_curve_interval: Interval
    env_steps: int | None = Field(description="Env steps of fine-tuning; exploration's apart.")
    updates: int | None = Field(description="Gradient updates of fine-tuning.")
    episodes: int = Field(description="Final evaluation episodes, all seeds together.")
    curve: list[CurvePoint]
    achievements: dict[str, float] | None = Field(
        None, description="Share of final episodes that unlock each achievement."
    )
    training_score: float | None = Field(
        None, description="Crafter's score over all training episodes, as published scores are."
    )


class Comparison(Result):
    """How probably a run of `better` beats one of `worse`; the names are the hypothesis."""

    better: str
    worse: str
    probability_of_improvement: float
    interval: Interval


class DesignResult(Result):
    """The 2 x 2 design: model carried or not x policy carried or not, paired by seed."""

    origin: str = Field(description="The arm that carries neither.")
    includes_encoder: bool = Field(description="Both effects include the encoder's.")
    seeds: list[int]
    model: Effect
    policy: Effect
    interaction: Effect


class TaskResult(Result):
    """Everything measured on one task."""

    metric: Metric
    arms: dict[str, ArmResult]
    references: dict[Literal["random", "oracle"], float]
    comparisons: list[Comparison]
    effects: DesignResult | None


class AggregateArm(Result):
    """One arm over all tasks x seeds, normalised."""

    iqm: float
    interval: Interval
    runs: int


class Aggregate(Result):
    """All tasks together, on one scale."""

    tasks: list[str]
    normalisation: str
    arms: dict[str, AggregateArm]
    comparisons: list[Comparison]
    effects: DesignResult | None


class ExplorationResult(Result):
    """What stands behind the arms, and what exploring learnt (means over seeds, last values)."""

    seeds: int
    env_steps: int | None
    updates: int | None
    coverage: float | None
    random_coverage: float | None
    moved: dict[str, float]
    random_moved: dict[str, float]
    model_error: float | None = Field(description="On held-out episodes.")
    model_error_baseline: float | None = Field(description="Of predicting no change.")


class LoopResult(Result):
    """One study, or one variant of it."""

    tasks: dict[str, TaskResult]
    aggregate: Aggregate | None
    exploration: ExplorationResult | None
    levels: int | None = Field(None, description="Levels of the training; null without any.")
    world_model: str | None = Field(None, description="`agent.world_model`.")
    collect: str | None = Field(None, description="`planning.collect`.")
    missing: list[str] = Field(description="What the run has yet to do, a line each.")


class StudyResults(LoopResult):
    """`results.json` of a study."""

    study: str


class VariantComparison(Comparison):
    """The same arm on the same task under two variants."""

    task: str
    arm: str


class PlannerCell(Result):
    """One cell of the matrix planner x variant: who planned, and with which model."""

    task: str | None = Field(description="Null: over all tasks, on one scale.")
    arm: str
    variant: str
    world_model: str | None
    planner: str
    iqm: float
    interval: Interval
    runs: int


class VariantResults(Result):
    """`results.json` of a study with variants."""

    study: str
    variants: dict[str, LoopResult]
    comparisons: list[VariantComparison]
    planning: list[PlannerCell] = Field(
        default_factory=list, description="Empty without a second planner at evaluation."
    )
    collecting: list[PlannerCell] = Field(
        default_factory=list, description="Empty without variants named by who collects."
    )
