"""Settings of what acts: actor-critic in imagination, curiosity, planning roles."""

from typing import Literal

from pydantic import Field

from tasks.settings import Settings
from world_models.settings import Bins

Planner = Literal["none", "cem", "mppi", "mcts"]


class AgentSettings(Settings):
    """Which parts make up the agent."""

    world_model: Literal["rssm", "muzero", "simulator", "none"] = Field(
        default="rssm",
        description="Dreamer-style, MuZero-style, the task's own step (maze), or the model-free "
        "control.",
    )
    curiosity: Literal["disagreement", "rnd", "none"] = Field(
        default="disagreement", description="Exploration bonus; none explores with a random policy."
    )


class SearchSettings(Settings):
    """Tree search in the model, planner `mcts` (MuZero, arXiv 1911.08265; Gumbel MuZero)."""

    kind: Literal["gumbel", "muzero"] = Field(
        default="gumbel", description="Sequential halving with Gumbel noise, or by visit counts."
    )
    simulations: int = Field(default=16, ge=1, description="Steps of the model per search.")
    depth: int | None = Field(
        default=None, ge=1, description="Deepest node; none leaves it to the simulations."
    )
    actions: int = Field(
        default=16, ge=2, description="Continuous actions sampled at every node (K)."
    )
    wide_share: float = Field(
        default=0.5, ge=0, le=0.9, description="Share of them drawn from the widened policy."
    )
    widening: float = Field(
        default=2.5, ge=1, description="Its standard deviations, in those of the policy."
    )
    considered: int = Field(
        default=8, ge=1, description="Actions that sequential halving begins with at the root."
    )
    value_scale: float = Field(
        default=0.1, gt=0, description="How far values outweigh the policy (c_scale)."
    )
    value_floor: float = Field(
        default=0.1,
        gt=0,
        description="Values are stretched to a range of 1 before they are weighed; a range below "
        "this counts as this, so that no policy is made of a fresh critic's noise.",
    )
    temperature: float = Field(
        default=1.0,
        ge=0,
        description="Of the action drawn while collecting, and at evaluations of tasks of choices; "
        "0 takes the best.",
    )
    temperature_end: float | None = Field(
        default=None, ge=0, description="What it changes to while training; none keeps it."
    )
    temperature_share: float = Field(
        default=1.0, gt=0, le=1, description="Share of a job's updates over which it does, evenly."
    )


class PlanningSettings(Settings):
    """Who plans, set apart for each role, and how (CEM and MPPI: Dyna-MPC, arXiv 2209.12016)."""

    collect: Planner = Field(
        default="none", description="While collecting env steps, once learning has begun."
    )
    learn: Planner = Field(
        default="none",
        description="For the policy's training targets; none learns them without plans: in "
        "imagination (rssm) or from how the actions taken turned out (muzero, simulator).",
    )
    learn_share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Share of the imagination starts that are planned from, to learn from (rssm; "
        "of the others see learning.reanalyse).",
    )
    learn_scale: float = Field(
        default=1.0,
        ge=0,
        description="Weight of what is learnt from plans beside what imagination teaches (rssm).",
    )
    evaluate: Planner = Field(default="none", description="When acting at evaluation.")
    samples: int = Field(default=128, ge=2, description="Action sequences per iteration.")
    elites: int = Field(default=16, ge=1, description="Of them, the best, which make the next.")
    iterations: int = Field(default=4, ge=1, description="Rounds of drawing and choosing.")
    horizon: int = Field(default=5, ge=1, description="Imagined steps; then the critic's value.")
    lambda_: float = Field(
        default=0.95,
        ge=0,
        le=1,
        alias="lambda",
        description="Lambda-return mixing along the horizon; 1 asks the critic at its end only.",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        description="MPPI: elites weigh exp(return / this), in deviations of their returns.",
    )
    momentum: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the last mean kept at each iteration."
    )
    std_from: float = Field(
        default=0.3, gt=0, description="First and largest deviation; actions lie in [-1, 1]."
    )
    std_to: float = Field(default=0.1, gt=0, description="Least deviation.")
    noise_correlation: float = Field(
        default=0.5, ge=0, lt=1, description="Of the noise of neighbouring steps (AR(1))."
    )
    policy_share: float = Field(
        default=0.25, ge=0, le=0.9, description="Share of the sequences that the policy proposes."
    )
    warm_start: bool = Field(
        default=True, description="Begin from the last plan, moved on by a step."
    )
    search: SearchSettings = SearchSettings()


class LearningSettings(Settings):
    """How values and policies are learnt from real steps (`muzero`, `simulator` and `none`)."""

    n_steps: int = Field(default=5, ge=1, description="Rewards summed before the bootstrap value.")
    reanalyse: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of a batch's sequences that are searched, with the slow copies.",
    )
    slow_rate: float = Field(
        default=0.02, gt=0, le=1, description="How far slow copies follow with each update."
    )
    value_scale: float = Field(default=0.5, ge=0, description="Weight of the value's loss.")
    policy_scale: float = Field(default=0.5, ge=0, description="Weight of the policy's loss.")


class BehaviourSettings(Settings):
    """Actor-critic learnt in imagination (DreamerV3, arXiv 2301.04104)."""

    width: int = Field(default=128, ge=8, description="Units of actor and critic layers.")
    layers: int = Field(default=2, ge=1, description="Hidden layers of actor and critic.")
    imagination_starts: int = Field(
        default=64, ge=1, description="Posterior states per batch from which to imagine."
    )
    rewarding_starts: float = Field(
        default=0.5, ge=0, lt=1, description="Share of them drawn by the rewards that followed."
    )
    imagination_horizon: int = Field(default=10, ge=1, description="Imagined steps.")
    discount: float = Field(default=0.97, gt=0, lt=1, description="Discount per agent step.")
    lambda_: float = Field(
        default=0.95, ge=0, le=1, alias="lambda", description="Lambda-return mixing."
    )
    estimator: Literal["auto", "dynamics", "reinforce"] = Field(
        default="auto",
        description="Actor gradient: through the model, by likelihood ratio, or by action kind.",
    )
    entropy: float = Field(default=3e-4, ge=0, description="Weight of the actor's entropy.")
    strain: float = Field(
        default=0.01,
        ge=0,
        description="Weight of the squared way of the actor's outputs beyond where they respond.",
    )
    return_floor: float = Field(
        default=0.1, gt=0, description="Returns are divided by max(P95 - P5, this)."
    )
    reward_unit: Literal["1-discount", "1"] = Field(
        default="1-discount",
        description="Imagined rewards are multiplied by this, so values stay near one.",
    )
    critics: int = Field(
        default=1,
        ge=1,
        description="Critics; of several the least value counts, to learn from and to plan with.",
    )
    slow_critic: float = Field(
        default=0.98, ge=0, lt=1, description="Decay of the slow critic per update."
    )
    min_std: float = Field(default=0.1, gt=0, description="Least standard deviation of the actor.")
    max_std: float = Field(
        default=0.7, gt=0, description="Largest standard deviation of the actor."
    )
    bins: Bins = Field(default=63, ge=3, description="Two-hot bins of the value, symexp-spaced.")
    bin_reach: float = Field(
        default=5.0,
        gt=0,
        description="They span symexp(-this) to symexp(this), 5 is 147; beyond is cut off.",
    )


class CuriositySettings(Settings):
    """Exploration bonuses (Plan2Explore, arXiv 2005.05960; RND, arXiv 1810.12894)."""

    heads: int = Field(default=5, ge=2, description="Ensemble members of `disagreement`.")
    width: int = Field(
        default=64, ge=8, description="Units of the ensemble's and RND's hidden layers."
    )
    layers: int = Field(default=1, ge=1, description="Hidden layers of each head.")
    learning_rate: float = Field(default=6e-4, gt=0, description="Learning rate of the explorer.")
    entropy: float = Field(
        default=1e-2,
        ge=0,
        description="Weight of the actor's entropy while exploring, in place of behaviour.entropy: "
        "a narrow explorer finds less of what a task rewards later.",
    )
    transfer_scale: float = Field(
        default=0.1,
        ge=0,
        description="Weight of the bonus beside the task's reward, in arms that carry `explorer`.",
    )
    transfer_share: float = Field(
        default=0.6,
        gt=0,
        le=1,
        description="Share of fine-tuning's updates over which that weight fades to nothing.",
    )
