"""Where imagination begins: at real states of a batch, some of them drawn by what followed.

A policy gradient and a value target are right from any state; the choice of starts only says which
states are practised. With a sparse reward hardly one of a batch's states leads to it, so a share
of the starts is drawn by the rewards that really followed in the batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from policies.returns import lambda_returns
from policies.settings import BehaviourSettings
from world_models.contract import Batch, State


def following_rewards(batch: Batch, discount: float) -> Float[Array, "b t"]:
    """Discounted sum of the rewards after each step [B, T], up to the end of its episode or of the
    batch; rewards that are not known (`reward_known`) count as zero."""
    rewards = batch["reward"] * batch.get("reward_known", 1.0)
    same_episode = ~batch["is_first"]
    ahead = jax.tree.map(lambda x: x[:, 1:].swapaxes(0, 1), (rewards, same_episode))
    # Into the next episode leads no reward, and from it none comes back.
    reached = jnp.where(ahead[1], ahead[0], 0.0)
    discounts = discount * ahead[1].astype(jnp.float32)
    sums = lambda_returns(reached, discounts, jnp.zeros_like(reached), 1.0)
    return jnp.pad(sums.swapaxes(0, 1), ((0, 0), (0, 1)))


def start_probabilities(
    alive: Float[Array, " n"], followed: Float[Array, " n"] | None, share: float
) -> Float[Array, " n"]:
    """Chance of each state: `share` of it by what `followed` above the least, the rest alike.

    States after a termination (`alive` 0) are chosen as the others are, and weighed by 0 later.
    """
    number = alive.shape[0]
    even = jnp.full(number, 1.0 / number)
    if followed is None:
        return even
    above = (followed - followed.min()) * alive
    total = above.sum()
    drawn = jnp.where(total > 0, above / jnp.where(total > 0, total, 1.0), even)
    return (1 - share) * even + share * drawn


def imagination_starts(
    states: State,
    batch: Batch,
    settings: BehaviourSettings,
    key: PRNGKeyArray,
    *,
    by_reward: bool,
) -> tuple[State, Float[Array, " n"]]:
    """States [N, ...] of a batch's [B, T, ...] to imagine from, none twice, and 0 for those after a
    termination. Consumes `key`."""
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), states)
    alive = 1.0 - batch["is_terminal"].reshape(-1).astype(jnp.float32)
    number = settings.imagination_starts
    if number >= alive.shape[0]:
        return flat, alive
    followed = following_rewards(batch, settings.discount).reshape(-1) if by_reward else None
    chances = start_probabilities(alive, followed, settings.rewarding_starts)
    chosen = jax.random.choice(key, alive.shape[0], (number,), replace=False, p=chances)
    return jax.tree.map(lambda x: x[chosen], flat), alive[chosen]
