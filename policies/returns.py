"""Lambda-returns over imagined or real steps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def lambda_returns(
    rewards: Float[Array, "h *b"],
    discounts: Float[Array, "h *b"],
    values: Float[Array, "h *b"],
    mix: float,
) -> Float[Array, "h *b"]:
    """R_t = r_t + d_t ((1 - mix) v_t + mix R_{t+1}), with R_h = v_{h-1} (2301.04104 eq. 5).

    Step t of all three belongs to the state that action t leads to: its reward, the discount times
    its continuation, and its value.
    """

    def step(later: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        reward, discount, value = row
        now = reward + discount * ((1 - mix) * value + mix * later)
        return now, now

    _, returns = jax.lax.scan(step, values[-1], (rewards, discounts, values), reverse=True)
    return returns


def survival(discounts: Float[Array, "h *b"]) -> Float[Array, "h *b"]:
    """Weight of each imagined step: the product of all discounts before it, 1 at the first."""
    ones = jnp.ones_like(discounts[:1])
    return jnp.cumprod(jnp.concatenate([ones, discounts[:-1]]), 0)
