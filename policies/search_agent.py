"""Agents that learn value and policy from real steps, with a model to search in or without search.

    values    n-step returns of the rewards that came, for every step of an unroll
    policy    by `planning.learn`:
              mcts   the search's weights over the actions it tried (reanalyse, arXiv 2104.06294)
              cem, mppi   likewise the elites' (`policies.distillation`); values stay those of the
                          head, for what elites return is what luck in imagination returned most
              none   the actions that were taken, weighed by how much better they turned out

Without search the policy's update is advantage-weighted regression (arXiv 1910.00177): the
log-likelihood of an action taken, times exp(advantage / its spread over the batch), the advantage
being the n-step return less the slow value. It is chosen over a likelihood-ratio policy gradient
because the actions come from a replay, of policies that have changed since, and where collecting
plans from a search: what chance they were taken with, the ratio's denominator, nobody knows. The
model takes no part in it but through the latents that it shapes.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from policies.components import objective_of
from policies.distillation import try_out
from policies.imagination import still
from policies.planners import build_planner
from policies.returns import n_step_returns
from policies.search import search
from policies.settings import PlanningSettings
from policies.slow import Behaviour, SlowAgent, View
from tasks.contract import MASK
from world_models.contract import Batch, State
from world_models.muzero import corrected, mean_of
from world_models.windows import own_episode, spans

MOST = 3.0  # advantages beyond it, in spreads, weigh no more (e^3 is 1910.00177's clip at 20)
LEAST_SPREAD = 0.1  # so that a fresh critic's noise is not stretched to advantages


class Targets(NamedTuple):
    """What the heads learn: `value` of every step that an unroll may reach, and of M sequences the
    `actions` to be made likelier at the first R steps, by `weights`."""

    value: Float[Array, "b rk"]
    actions: Float[Array, "m r n a"]
    weights: Float[Array, "m r n"]


class SearchAgent(SlowAgent):
    """Targets and losses of an actor and a critic that read features of a model."""

    planning: PlanningSettings = eqx.field(static=True)

    def targets(
        self,
        batch: Batch,
        states: State,
        seen: Float[Array, "b t f"],
        roots: int,
        bonus_weight: float | Float[Array, ""] | None,
        key: PRNGKeyArray,
    ) -> Targets:
        """Targets by this agent, usually the slow one, whose `states` and features `seen` are.

        The search's value takes the place of the head's where a searched step is bootstrapped from.
        Consumes `key`.
        """
        values = jax.vmap(jax.vmap(self.critic))(seen).mean()
        paid = self.paid(batch, seen, bonus_weight)

        def returns(values: Float[Array, "b t"]) -> Float[Array, "b rk"]:
            ends = batch["is_first"], batch["is_terminal"]
            discount, steps = self.behaviour.discount, self.learning.n_steps
            return n_step_returns(paid, values, *ends, discount, steps)

        if self.planning.learn == "none":
            came = returns(values)
            known = batch.get("reward_known") if bonus_weight is not None else None
            return Targets(came, *taken(batch, came, values, roots, known))

        share = max(1, round(self.learning.reanalyse * seen.shape[0]))
        mask = batch.get(MASK)

        def flat(x: Array) -> Array:
            return x[:share, :roots].reshape(-1, *x.shape[2:])

        def folded(x: Array) -> Array:
            return x.reshape(share, roots, *x.shape[1:])

        if self.planning.learn != "mcts":
            planner = build_planner(self.planning.learn, self.planning)
            begun = jax.tree.map(flat, states)
            asked = (self.model, self.actor, objective_of(self, bonus_weight), begun, key)
            tried = try_out(planner, *asked, None if mask is None else flat(mask))
            return Targets(returns(values), folded(tried.actions), folded(tried.weights))

        found = search(
            self.model,
            self.actor,
            objective_of(self, bonus_weight),
            jax.tree.map(flat, states),
            key,
            self.planning.search,
            greedy=False,
            invalid=None if mask is None else ~flat(mask),
        )
        values = values.at[:share, :roots].set(folded(found.value))
        return Targets(returns(values), folded(found.actions), folded(found.weights))

    def head_losses(
        self, batch: Batch, unrolled: Float[Array, "b r k1 f"], targets: Targets, exploring: bool
    ) -> Behaviour:
        """Losses of value and policy along an unroll.

        The value of a sequence whose rewards are not known (`reward_known`) is not learnt.
        """
        roots, ahead = unrolled.shape[1], unrolled.shape[2] - 1
        valid = own_episode(batch["is_first"], roots, ahead)
        values = jax.vmap(jax.vmap(jax.vmap(self.critic)))(unrolled)
        wanted = spans(targets.value, roots, ahead + 1)
        counts = valid.astype(jnp.float32)
        if "reward_known" in batch and not exploring:
            counts *= batch["reward_known"][:, :1, None]
        weight = batch.get("weight")
        value = mean_of(corrected(-values.log_prob(wanted), weight), counts)
        errors = jnp.abs(values.mean()[:, :, 0] - wanted[:, :, 0]).mean(-1)

        near = min(ahead, roots - 1) + 1  # steps of an unroll that have a target
        number = targets.weights.shape[0]
        policy = jax.vmap(jax.vmap(jax.vmap(self.actor)))(unrolled[:number, :, :near])
        room = ((0, 0), (0, near - 1))
        actions = spans(jnp.pad(targets.actions, (*room, (0, 0), (0, 0))), roots, near)
        weights = spans(jnp.pad(targets.weights, (*room, (0, 0))), roots, near)
        ended = spans(batch["is_terminal"], roots, near)[:number]
        inside = jnp.arange(roots)[:, None] + jnp.arange(near) < roots
        counts = (valid[:number, :, :near] & ~ended & inside).astype(jnp.float32)
        likely = jax.vmap(lambda a: policy.log_prob(a), -2, -1)(actions)

        def mean(x: Float[Array, "m r n"]) -> Float[Array, ""]:
            return mean_of(corrected(x, None if weight is None else weight[:number]), counts)

        metrics = {
            "actor/entropy": mean(policy.entropy()),
            "actor/strain": mean(policy.strain()),
            "value/mean": values.mean().mean(),
            "return/mean": targets.value.mean(),
            "target/weight": targets.weights.max(-1).mean(),
        }
        losses = {"value": value, "policy": mean(-(weights * likely).sum(-1))}
        return Behaviour(losses, metrics, errors)

    def behaviour_losses(
        self,
        batch: Batch,
        view: View,
        bonus_weight: float | Float[Array, ""] | None,
        key: PRNGKeyArray,
    ) -> Behaviour:
        roots = view.latents.shape[1]
        targets = self.slowly.targets(batch, view.states, view.seen, roots, bonus_weight, key)
        return self.head_losses(batch, view.latents, still(targets), bonus_weight is None)


def taken(
    batch: Batch,
    returns: Float[Array, "b rk"],
    values: Float[Array, "b t"],
    roots: int,
    known: Float[Array, "b t"] | None = None,
) -> tuple[Float[Array, "b r 1 a"], Float[Array, "b r 1"]]:
    """The actions that were taken at the first `roots` steps, and how much each is to count: 1 on
    average over those that led somewhere, 0 for those after an episode's last step, or in sequences
    whose rewards are not `known`."""
    acted: Bool[Array, "b r"] = ~(
        batch["is_first"][:, 1 : roots + 1] | batch["is_terminal"][:, :roots]
    )
    counts = acted.astype(jnp.float32)
    if known is not None:
        counts *= known[:, :1]
    better = returns[:, :roots] - values[:, :roots]
    variance = mean_of(jnp.square(better - mean_of(better, counts)), counts)
    spread = jnp.maximum(jnp.sqrt(variance), LEAST_SPREAD)
    weights = jnp.exp(jnp.minimum(better / spread, MOST))
    weights = counts * weights / jnp.maximum(mean_of(weights, counts), 1e-8)
    return batch["action"][:, :roots, None], weights[..., None]
