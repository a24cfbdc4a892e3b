"""Lambda-returns over imagined steps, n-step returns over real ones."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


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


def n_step_returns(
    rewards: Float[Array, "b t"],
    values: Float[Array, "b t"],
    is_first: Bool[Array, "b t"],
    is_terminal: Bool[Array, "b t"],
    discount: float,
    steps: int,
) -> Float[Array, "b r"]:
    """sum_i discount^(i-1) r_{t+i} + discount^n v_{t+n} of every step t < T - n (1911.08265 eq. 3).

    Step t of `rewards` is what was paid on arriving there. After a termination nothing comes; an
    episode that was cut off is worth what its last state is, so the sum ends early with that value.
    """
    number = rewards.shape[1] - steps

    def ahead(x: Array, by: int) -> Array:
        return x[:, by : by + number]

    goes_on = 1.0 - ahead(is_terminal, 0).astype(jnp.float32)
    total = jnp.zeros_like(goes_on)
    for step in range(1, steps + 1):
        cut = ahead(is_first, step).astype(jnp.float32)
        total += goes_on * cut * discount ** (step - 1) * ahead(values, step - 1)
        goes_on *= 1.0 - cut
        total += goes_on * discount ** (step - 1) * ahead(rewards, step)
        goes_on *= 1.0 - ahead(is_terminal, step).astype(jnp.float32)
    return total + goes_on * discount**steps * ahead(values, steps)
