"""Actor-critic learnt in imagination (DreamerV3, arXiv 2301.04104, section 3).

From real states the actor acts in the world model; the critic learns the lambda-returns of what is
imagined, and the actor raises them: by gradients through the model (`dynamics`) or by likelihood
ratio (`reinforce`).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from policies.actor import ActionDistribution, Actor, masked
from policies.critic import Critic, ReturnRange
from policies.objectives import Objective
from policies.returns import lambda_returns, survival
from policies.settings import BehaviourSettings
from world_models.contract import Noise, State, WorldModel
from world_models.layers import each


class Dream(NamedTuple):
    """Imagined steps: features of the states in which they begin (`before`) and of the `last`;
    `actions` and the `policy` that each was drawn from, whose states are held still."""

    before: Float[Array, "h n f"]
    last: Float[Array, "n f"]
    actions: Float[Array, "h n a"]
    policy: ActionDistribution  # of [H, N]

    @property
    def after(self) -> Float[Array, "h n f"]:
        """Features of the states in which steps end: a copy of most of `before`."""
        return jnp.concatenate([self.before[1:], self.last[None]])


def still(tree: PyTree) -> PyTree:
    """The same arrays without gradients."""
    return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_array(x) else x, tree)


def imagine(
    model: WorldModel,
    actor: Actor,
    starts: State,
    horizon: int,
    key: PRNGKeyArray,
    mask: Bool[Array, " a"] | None = None,
) -> Dream:
    """Roll the actor out in the model from `starts` [N, ...]. Consumes `key`.

    `mask` are the choices allowed at the starts; of later states none is known.
    """
    number = jax.tree.leaves(starts)[0].shape[0]
    read = jax.vmap(model.features)

    allowed = None if mask is None else jnp.ones((horizon, len(mask)), bool).at[0].set(mask)

    def step(
        state: State, row: tuple[tuple[Array, Noise], Array | None]
    ) -> tuple[State, tuple[Any, Array, Array]]:
        (to_act, to_imagine), allowed = row
        features = read(state)
        # The actor sees states held still: gradients reach it through its actions alone.
        policy = masked(jax.vmap(actor)(jax.lax.stop_gradient(features)), allowed)
        action = policy.sample(to_act)
        return jax.vmap(model.imagine)(state, action, to_imagine), (policy, action, features)

    act_key, model_key = jax.random.split(key)
    shape = (horizon, number)
    noise = actor.noise(act_key, shape), model.noise(model_key, shape)
    last, (policy, actions, features) = jax.lax.scan(step, starts, (noise, allowed))
    return Dream(features, read(last), actions, policy)


class BehaviourAux(NamedTuple):
    """What one behaviour loss leaves behind."""

    range: ReturnRange
    metrics: dict[str, Float[Array, ""]]


def behaviour_losses(
    actor: Actor,
    critic: Critic,
    model: WorldModel,
    objective: Objective,
    starts: State,
    start_weight: Float[Array, " n"],
    settings: BehaviourSettings,
    key: PRNGKeyArray,
) -> tuple[dict[str, Float[Array, ""]], BehaviourAux]:
    """Losses `actor` and `critic`. Gradients reach the actor and the critic's head alone.

    Through the model the actor's gradient is that of the value of the starts (stochastic value
    gradients, arXiv 1510.09142 eq. 8); by likelihood ratio every imagined step has its own.

    `objective` and `model` are held still; `start_weight` is 0 for starts after a termination.
    """
    model, objective = still(model), still(objective)
    dream = imagine(model, actor, still(starts), settings.imagination_horizon, key)
    after = dream.after
    rewards = each(objective.reward)(dream.before, dream.actions, after)
    discounts = each(objective.discount)(after)
    # Over `before`, whose pass the compiler shares with the critic's below, not over `after`.
    value = each(objective.value)(dream.before)
    values = jnp.concatenate([value[1:], jax.vmap(objective.value)(dream.last)[None]])
    returns = lambda_returns(rewards, discounts, values, settings.lambda_)
    weight = jax.lax.stop_gradient(survival(discounts) * start_weight)

    features = jax.lax.stop_gradient(dream.before)
    value = each(critic)(features)
    target = jax.lax.stop_gradient(returns)
    slow = jax.lax.stop_gradient(each(critic.slow_value)(features))
    critic_loss = -(weight * (value.log_prob(target) + value.log_prob(slow))).mean()

    spread = critic.range.value.update(target)
    scale = spread.scale(settings.return_floor)
    entropy = dream.policy.entropy()
    if use_dynamics(settings, actor):
        # The first returns alone: an action moves every later return, too, and the sum of them all
        # would count a reward that comes k steps ahead k + 1 times, however it is discounted.
        gain = (start_weight * returns[0] / scale).mean()
    else:
        advantage = jax.lax.stop_gradient((returns - value.mean()) / scale)
        likely = dream.policy.log_prob(jax.lax.stop_gradient(dream.actions))
        gain = (weight * advantage * likely).mean()
    strain = dream.policy.strain()
    kept = settings.entropy * entropy - settings.strain * strain
    actor_loss = -gain - (weight * kept).mean()
    metrics = {
        "actor/entropy": entropy.mean(),
        "actor/strain": strain.mean(),
        "return/mean": target.mean(),
        "return/range": scale,
        "value/mean": value.mean().mean(),
        "reward/imagined": rewards.mean(),
    }
    return {"actor": actor_loss, "critic": critic_loss}, BehaviourAux(spread, metrics)


def use_dynamics(settings: BehaviourSettings, actor: Actor) -> bool:
    """Whether actor gradients go through the model; `auto` does so for continuous actions."""
    if settings.estimator == "auto":
        return actor.action.kind == "continuous"
    return settings.estimator == "dynamics"
