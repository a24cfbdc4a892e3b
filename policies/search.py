"""Monte-Carlo tree search in a world model, on mctx: one jitted call, batched over states.

The tree grows by `imagine`; rewards, discounts and values are an `Objective`'s, so the search runs
on any world model and for any wish. Gumbel MuZero (Danihelka et al., ICLR 2022) is the default:
sequential halving at the root, completed Q-values, a policy that improves with two simulations.
`muzero` is the older search by visit counts (arXiv 1911.08265). Continuous actions are sampled
anew at every node (`policies.candidates`).

    found = search(model, actor, objective, states, key, settings, greedy=False)
    found.action [B, A]                      what to do
    found.actions, found.weights [B, K]      what to train the policy towards
    found.value [B]                          what to train the value towards

Choices that make no sense (`invalid`) are known at the root alone. Inside the tree it is the prior
that has to know them: the policy learns from searches that gave them no weight.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from policies import candidates
from policies.actor import Actor
from policies.objectives import Objective
from policies.settings import SearchSettings
from world_models.contract import State, WorldModel

# dataclasses of chex, whose fields type checkers do not see
RootOutput: Any = mctx.RootFnOutput
StepOutput: Any = mctx.RecurrentFnOutput
MAX_VISIT = 50.0  # c_visit of Gumbel MuZero (ICLR 2022, section 5)


class Found(NamedTuple):
    """What a search found: `weights` over the root's `actions`, which sum to one."""

    action: Float[Array, "b a"]
    actions: Float[Array, "b k a"]
    weights: Float[Array, "b k"]
    value: Float[Array, " b"]


class Node(NamedTuple):
    """What a node of the tree holds: its state, and the actions that are tried from it."""

    state: State
    actions: Float[Array, "b k a"]


def search(
    model: WorldModel,
    actor: Actor,
    objective: Objective,
    states: State,
    key: PRNGKeyArray,
    settings: SearchSettings,
    *,
    greedy: bool,
    invalid: Bool[Array, "b k"] | None = None,
    temperature: Float[Array, ""] | float | None = None,
) -> Found:
    """Search from `states` [B, ...]. Consumes `key`.

    Args:
        greedy: take the best action found, with no noise at the root; else one of the improved
            policy at the temperature.
        invalid: choices that must not be taken at the root, True where so.
        temperature: in the place of `settings.temperature`, where it changes (see `cooled`).
    """
    noise_key, search_key, act_key = jax.random.split(key, 3)
    features = jax.vmap(model.features)(states)
    noise = candidates.draw(actor, settings, noise_key, features.shape[:1])
    root = _propose(actor, features, noise, settings)
    found = _tree_policy(settings, greedy)(
        params=None,
        rng_key=search_key,
        root=RootOutput(
            prior_logits=root.prior,
            value=jax.vmap(objective.value)(features).astype(jnp.float32),
            embedding=Node(states, root.actions),
        ),
        recurrent_fn=_stepper(model, actor, objective, settings),
        num_simulations=settings.simulations,
        max_depth=settings.depth,
        invalid_actions=None if invalid is None else invalid.astype(jnp.float32),
    )
    weights = found.action_weights
    chosen = found.action
    if not greedy:
        logits = jnp.log(jnp.maximum(weights, candidates.LEAST))
        heat = settings.temperature if temperature is None else temperature
        logits = logits / jnp.maximum(heat, 1e-3)
        if invalid is not None:
            logits = jnp.where(invalid, -jnp.inf, logits)
        chosen = jax.random.categorical(act_key, logits)
    value = found.search_tree.summary().value
    return Found(_pick(root.actions, chosen), root.actions, weights, value)


def cooled(settings: SearchSettings, planned: int, updates: int) -> float:
    """The temperature after so many of the `planned` updates: it goes evenly to its end (MuZero's
    goes down in three steps, 1911.08265 appendix D)."""
    if settings.temperature_end is None:
        return settings.temperature
    share = min(1.0, updates / max(settings.temperature_share * planned, 1.0))
    return (1.0 - share) * settings.temperature + share * settings.temperature_end


def improved(
    prior: Float[Array, "*b k"],
    values: Float[Array, "*b k"],
    settings: SearchSettings,
    invalid: Bool[Array, "*b k"] | None = None,
) -> Float[Array, "*b k"]:
    """softmax(prior + sigma(q)): the improved policy where every action's value is known.

    q is rescaled to a range of 1, or less where its own is below the settings' floor, and
    multiplied by (50 + visits) x value scale, each having one visit. `invalid` choices have no
    weight, and what they are worth moves no other's.
    """
    known = jnp.ones(values.shape, bool) if invalid is None else ~invalid
    low = values.min(-1, keepdims=True, where=known, initial=jnp.inf)
    high = values.max(-1, keepdims=True, where=known, initial=-jnp.inf)
    rescaled = (values - low) / jnp.maximum(high - low, settings.value_floor)
    logits = prior + (MAX_VISIT + 1.0) * settings.value_scale * rescaled
    return jax.nn.softmax(jnp.where(known, logits, -jnp.inf))


def _tree_policy(settings: SearchSettings, greedy: bool) -> Any:
    """The search of mctx that the settings name."""
    if settings.kind == "muzero":
        return functools.partial(
            mctx.muzero_policy,
            dirichlet_fraction=0.0 if greedy else 0.25,
            temperature=0.0,  # what is not greedy is drawn from the weights afterwards
        )
    return functools.partial(
        mctx.gumbel_muzero_policy,
        max_num_considered_actions=settings.considered,
        gumbel_scale=0.0 if greedy else 1.0,
        qtransform=functools.partial(
            mctx.qtransform_completed_by_mix_value,
            value_scale=settings.value_scale,
            maxvisit_init=MAX_VISIT,
            epsilon=settings.value_floor,
        ),
    )


def _stepper(
    model: WorldModel, actor: Actor, objective: Objective, settings: SearchSettings
) -> Any:
    """mctx's recurrent function: from nodes by the chosen actions to their children."""

    def step(_: None, key: PRNGKeyArray, index: Array, node: Node) -> tuple[Any, Node]:
        noise_key, step_key = jax.random.split(key)
        batch = index.shape[0]
        action = _pick(node.actions, index)
        before = jax.vmap(model.features)(node.state)
        state = jax.vmap(model.imagine)(node.state, action, model.noise(step_key, (batch,)))
        after = jax.vmap(model.features)(state)
        # One draw for all trees of the batch: within a tree every node has its own.
        noise = candidates.draw(actor, settings, noise_key)
        noise = jnp.broadcast_to(noise, (batch, *noise.shape))
        following = _propose(actor, after, noise, settings)
        output = StepOutput(
            reward=jax.vmap(objective.reward)(before, action, after).astype(jnp.float32),
            discount=jax.vmap(objective.discount)(after).astype(jnp.float32),
            prior_logits=following.prior,
            value=jax.vmap(objective.value)(after).astype(jnp.float32),
        )
        return output, Node(state, following.actions)

    return step


def _propose(
    actor: Actor, features: Array, noise: Array, settings: SearchSettings
) -> candidates.Candidates:
    def one(features: Array, noise: Array) -> candidates.Candidates:
        return candidates.propose(actor(features), noise, settings)

    return jax.vmap(one)(features, noise)


def _pick(actions: Float[Array, "b k a"], index: Array) -> Float[Array, "b a"]:
    return jnp.take_along_axis(actions, index[:, None, None], 1)[:, 0]
