"""Settings of the world model: sizes, losses, and how observations go in and come out."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tasks.settings import Settings


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"must be odd, so that one bin is exactly 0; got {number}")
    return number


Bins = Annotated[int, AfterValidator(_odd)]


class ModelSettings(Settings):
    """Recurrent state-space model (RSSM). Only the preset `paper` derives sizes from the width."""

    width: int = Field(default=128, ge=8, description="Units of every hidden layer.")
    layers: int = Field(default=2, ge=1, description="Hidden layers of encoder, decoder and heads.")
    recurrent: int = Field(default=128, ge=8, description="Units of the recurrent state.")
    blocks: int = Field(
        default=1, ge=1, description="Blocks of the recurrent core; divides `recurrent`."
    )
    latents: int = Field(default=8, ge=1, description="Categorical latents per step.")
    classes: int = Field(default=8, ge=2, description="Classes per latent.")
    image_encoder: Literal["patches", "convolutions"] = Field(
        default="patches", description="Matrix products over patches (fast on CPU) or convolutions."
    )
    image_depth: int = Field(default=16, ge=2, description="Channels of the first image layer.")
    unimix: float = Field(
        default=0.01, ge=0, lt=1, description="Uniform share mixed into categoricals."
    )
    free_nats: float = Field(default=1.0, ge=0, description="KL below this is not trained.")
    bins: Bins = Field(default=63, ge=3, description="Two-hot bins of the reward, symexp-spaced.")
    bin_reach: float = Field(
        default=5.0,
        gt=0,
        description="They span symexp(-this) to symexp(this), 5 is 147; beyond is cut off.",
    )
    reconstruction_scale: float = Field(
        default=1.0, ge=0, description="Weight of `reconstruction`."
    )
    reward_scale: float = Field(default=1.0, ge=0, description="Weight of `reward`.")
    continue_scale: float = Field(default=1.0, ge=0, description="Weight of `continue`.")
    dynamics_scale: float = Field(
        default=1.0, ge=0, description="Weight of `dynamics` (prior to posterior)."
    )
    representation_scale: float = Field(
        default=0.1, ge=0, description="Weight of `representation` (posterior to prior)."
    )


class MuZeroSettings(Settings):
    """MuZero's world model (arXiv 1911.08265): what it has besides the sizes of [model]."""

    latent: int = Field(default=128, ge=8, description="Numbers in a latent state.")
    unroll: int = Field(default=5, ge=1, description="Steps over which the model is unrolled.")
    history: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Observations that a latent knows, the present one included, and the actions "
        "between them (`muzero` and `none`).",
    )
    projection: int = Field(
        default=64, ge=8, description="Numbers that `spr` and `contrastive` compare."
    )
    spr_scale: float = Field(
        default=2.0,
        ge=0,
        description="Weight of `spr`: predict the slow embedding at t+k (negative cosine).",
    )
    contrastive_scale: float = Field(
        default=0.0,
        ge=0,
        description="Weight of `contrastive`: tell the embedding at t+k from all others (InfoNCE).",
    )
    reconstruction_scale: float = Field(
        default=0.0,
        ge=0,
        description="Weight of `reconstruction` at t+k; at 0 the decoder only looks on.",
    )
