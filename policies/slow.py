"""Slow copies of learned components: targets that do not run after what learns from them."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from policies.components import COMPONENTS, Agent, LossAux
from policies.settings import LearningSettings
from world_models.contract import Batch
from world_models.running import Running

COPIED = tuple(name for name in COMPONENTS if name != "explorer")


class Paired(eqx.Module):
    """What a checkpoint holds of a component that has a slow copy, which belongs to it."""

    now: PyTree
    slow: Running[PyTree]


def followed(slow: Any, now: Any, rate: float) -> Any:
    """The slow copy moved by a share `rate` towards what is learned."""
    return jax.tree.map(
        lambda old, new: old + rate * (new - old) if eqx.is_inexact_array(old) else old,
        slow,
        now,
    )


class SlowAgent(Agent):
    """An agent with a slow copy of every component but the explorer, learning from real steps."""

    slow: Running[dict[str, Any]]
    learning: LearningSettings = eqx.field(static=True)

    @property
    def unit(self) -> float:
        """Rewards count as they are: the value transform compresses what is large."""
        return 1.0

    @property
    def slowly(self) -> Any:
        """The agent made of the slow copies; curiosity has none."""
        names = tuple(self.slow.value)
        parts = tuple(self.slow.value.values())
        return eqx.tree_at(lambda agent: tuple(getattr(agent, n) for n in names), self, parts)

    def components(self) -> dict[str, Any]:
        parts = super().components()
        slow = self.slow.value
        return {
            name: Paired(part, Running(slow[name])) if name in slow else part
            for name, part in parts.items()
        }

    def replace(self, parts: Mapping[str, Any]) -> "SlowAgent":
        now = {name: part.now if name in COPIED else part for name, part in parts.items()}
        slow = {name: parts[name].slow.value for name in COPIED if name in parts}
        agent: Any = super().replace(now)
        return eqx.tree_at(lambda a: a.slow.value, agent, self.slow.value | slow)

    def settle(self, aux: LossAux) -> Agent:
        """The slow copies and the explorer's moments move on."""
        now = {name: getattr(self, name) for name in self.slow.value}
        slow = followed(self.slow.value, now, self.learning.slow_rate)
        agent: Any = eqx.tree_at(lambda a: a.slow.value, self, slow)
        return agent if aux.explorer is None else agent.with_statistics(aux.explorer)

    def paid(
        self, batch: Batch, seen: Float[Array, "b t z"], weight: float | Array | None
    ) -> Float[Array, "b t"]:
        """What each real step paid on arriving: reward, bonus, or both (see `objective_of`)."""
        rewards = batch["reward"].astype(jnp.float32)
        if self.explorer is None:
            return rewards
        each = jax.vmap(jax.vmap(self.explorer.bonus))
        bonus = each(seen[:, :-1], batch["action"][:, :-1], seen[:, 1:])
        bonus = jnp.pad(bonus, ((0, 0), (1, 0)))
        return bonus if weight is None else rewards + weight * bonus
