"""Settings every floor builds on: typed, frozen, and closed to unknown keys."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_LEVELS = 1_000_000  # level seeds below it are for training on; the rest are never among them


class Settings(BaseModel):
    """Base of every settings section; an unknown key is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class TaskOptions(Settings):
    """How tasks are built; the same in pretraining and transfer. Recorded in every run."""

    observe: tuple[Literal["state", "image"], ...] = Field(
        default=("state",),
        min_length=1,
        description="What the agent sees: state vectors, images, or both.",
    )
    image_size: int = Field(
        default=64, ge=16, le=256, description="Side of square image observations, px."
    )
    render: Literal["fast", "native"] = Field(
        default="fast",
        description="fast leaves out shadows, reflections and antialiasing; native is the suite's.",
    )
    action_repeat: int = Field(
        default=1, ge=1, le=16, description="Simulator steps per agent action; rewards are summed."
    )
    episode_length: int | None = Field(
        default=None,
        ge=2,
        description="Cap on agent steps per episode; none keeps the suite's own limit.",
    )
    levels: int | None = Field(
        default=None,
        ge=1,
        le=MOST_LEVELS,
        description="Train on so many levels of a procedural suite (maze, procgen, jumanji), "
        "evaluate on others; none draws from all others in both.",
    )
    rewards: Literal["corrected", "stock"] = Field(
        default="corrected",
        description="RoboDesk: repaired dense rewards, or the published package's own.",
    )
    goals: Literal["visible", "hidden"] = Field(
        default="visible", description="Meta-World: whether the observation shows the goal."
    )
    video_size: int = Field(default=200, ge=64, le=1024, description="Side of rendered videos, px.")
