"""Slow copies of learned components: targets that do not run after what learns from them.

Agents that have them learn from real steps, all by the same loss: that of a model if there is one,
then a curiosity's, then those of value and policy. What the families differ in is how they view a
batch, and how value and policy learn from it.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policies.components import COMPONENTS, Agent, LossAux, learn_curiosity, real_steps
from policies.settings import LearningSettings
from world_models.contract import Batch, State
from world_models.running import Running, cast
from world_models.windows import without_context

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


class Behaviour(NamedTuple):
    """Losses of `value` and `policy`, what to tell of them (`actor/entropy` and `actor/strain` at
    least), and the mean absolute error of the values of each sequence's roots."""

    losses: dict[str, Float[Array, ""]]
    metrics: dict[str, Float[Array, ""]]
    errors: Float[Array, " b"]


class View(NamedTuple):
    """What an agent makes of a batch before anything in it is valued.

    Of its own roots the `latents`, which gradients pass; of every step that has a latent the slow
    copies' `states` and what their features are (`seen`), held still; the weighed losses of a
    model, 0 without one.
    """

    latents: Float[Array, "b r *f"]
    states: State
    seen: Float[Array, "b t f"]
    total: Float[Array, ""]
    metrics: dict[str, Float[Array, ""]]


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

    @abstractmethod
    def view(self, batch: Batch, stage: str) -> View:
        """What the batch shows to this agent and to its slow copies."""

    @abstractmethod
    def behaviour_losses(
        self,
        batch: Batch,
        view: View,
        bonus_weight: float | Float[Array, ""] | None,
        key: PRNGKeyArray,
    ) -> Behaviour:
        """What value and policy learn from the batch; without a weight, to want the bonus alone.
        Consumes `key`."""

    def loss(
        self,
        batch: Batch,
        key: PRNGKeyArray,
        *,
        stage: str,
        dtype: jnp.dtype,
        bonus_weight: float | Float[Array, ""],
    ) -> tuple[Float[Array, ""], LossAux]:
        agent, exploring = cast(self, dtype), stage == "explore"
        view = agent.view(batch, stage)
        batch = without_context(batch, agent.encoder.context)
        total, metrics, explorer = view.total, view.metrics, None
        if self.explorer is not None:
            steps = real_steps(agent.encoder.observation, batch, view.seen)
            loss, explorer, more = learn_curiosity(self.explorer, steps, dtype)
            total, metrics = total + loss, metrics | more
        elif exploring:  # nothing to want
            return total, LossAux(metrics | {"loss/total": total}, None, None)

        weight = None if exploring else bonus_weight
        losses, more, errors = agent.behaviour_losses(batch, view, weight, key)
        s, b = self.learning, self.behaviour
        wanted = s.value_scale * losses["value"] + s.policy_scale * losses["policy"]
        wanted = wanted - b.entropy * more["actor/entropy"] + b.strain * more["actor/strain"]
        total = total + wanted
        metrics = metrics | {f"loss/{name}": value for name, value in losses.items()} | more
        return total, LossAux(metrics | {"loss/total": total}, None, explorer, errors)

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
