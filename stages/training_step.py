"""The training step: several updates scanned in one jitted call with donated buffers.

    state, metrics = step(state, batches, key)     batches: arrays [updates, B, T, ...]

Randomness comes from (seed, number of the update), so a resumed run draws the same numbers. On
several devices batches are split along B over a `data` axis and the state is replicated; the
compiler adds the all-reduce.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policies.agent import COMPONENTS, Agent, agent_loss, settle
from policies.settings import CuriositySettings
from stages.kept_programs import kept
from stages.optimiser import build_optimiser, descend, learning_rates
from stages.settings import TrainingSettings
from world_models.running import trainable


class TrainingState(eqx.Module):
    """All arrays that an update changes."""

    agent: Agent
    optimiser: PyTree
    updates: Int[Array, ""]


Batches = Mapping[str, Any]
Metrics = dict[str, Array]
Step = Callable[[TrainingState, Batches, PRNGKeyArray], tuple[TrainingState, Metrics]]
ERRORS = "errors"  # among the metrics of batches that were drawn by them: [updates, B], no average


def learning(agent: Agent, names: tuple[str, ...] | None) -> PyTree[bool]:
    """True at every array that gradients train: of the components named, or of all."""
    mask = trainable(agent)
    for name in COMPONENTS if names is not None else ():
        if name not in (names or ()) and getattr(mask, name) is not None:
            still = jax.tree.map(lambda _: False, getattr(mask, name))
            mask = eqx.tree_at(lambda m, name=name: getattr(m, name), mask, still)
    return mask


def initial_state(
    agent: Agent, training: TrainingSettings, learn: tuple[str, ...] | None = None
) -> TrainingState:
    """Training state of a fresh agent, of which the components named learn, or all."""
    params, _ = eqx.partition(agent, learning(agent, learn))
    optimiser = build_optimiser(training).init(params)
    # Donated buffers must not be shared, and a slow copy starts as the very same arrays.
    state = TrainingState(agent, optimiser, jnp.zeros((), jnp.int32))
    return jax.tree.map(lambda x: jnp.array(x) if eqx.is_array(x) else x, state)


def faded(
    curiosity: CuriositySettings, planned: int, updates: Int[Array, ""] | int
) -> Float[Array, ""]:
    """Weight of a carried curiosity's bonus after so many of the `planned` updates."""
    fade = max(curiosity.transfer_share * planned, 1.0)
    return curiosity.transfer_scale * jnp.maximum(0.0, 1.0 - updates / fade)


@functools.lru_cache(maxsize=8)
def build_step(
    training: TrainingSettings,
    curiosity: CuriositySettings,
    stage: str,
    planned: int,
    learn: tuple[str, ...] | None = None,
) -> Step:
    """The jitted training step of a stage; jobs of equal settings share it, compiled once.

    It takes (state, batches, key), consumes the state's buffers, and averages metrics over the
    updates of a call; of batches that have a `weight` the sequences' errors are among them.

    Args:
        planned: updates of the whole job, over a share of which a carried curiosity fades.
        learn: components that change, running parts included; all others stay as they are.
    """
    optimiser = build_optimiser(training)
    rates = learning_rates(training, curiosity.learning_rate)
    dtype = jnp.dtype(training.precision)
    warmup_updates = max(training.warmup_updates, 1)

    def update(
        state: TrainingState, batch: Batches, key: PRNGKeyArray
    ) -> tuple[TrainingState, Metrics]:
        params, rest = eqx.partition(state.agent, learning(state.agent, learn))
        update_key = jax.random.fold_in(key, state.updates)
        bonus_weight = faded(curiosity, planned, state.updates)

        def loss(params: Agent) -> tuple[Array, Any]:
            agent = eqx.combine(params, rest)
            return agent_loss(
                agent, batch, update_key, stage=stage, dtype=dtype, bonus_weight=bonus_weight
            )

        (_, aux), gradients = eqx.filter_value_and_grad(loss, has_aux=True)(params)
        raw, optimiser_state = optimiser.update(gradients, state.optimiser, params)
        updates = cast(Agent, raw)  # of the same structure, which optax cannot tell
        warmup = jnp.minimum(1.0, (state.updates + 1) / warmup_updates)
        params = eqx.apply_updates(params, descend(updates, rates, warmup))
        agent = settle(eqx.combine(params, rest), aux)
        if learn is not None:  # slow copies and statistics of the others stay, too
            parts = agent.components()
            agent = state.agent.replace({n: parts[n] for n in learn if n in parts})
        metrics = aux.metrics | {"gradient/norm": optax.tree.norm(gradients)}
        if "weight" in batch and aux.errors is not None:
            metrics[ERRORS] = aux.errors
        return TrainingState(agent, optimiser_state, state.updates + 1), metrics

    def run(
        inputs: tuple[Batches, PRNGKeyArray], state: TrainingState
    ) -> tuple[TrainingState, Metrics]:
        batches, key = inputs
        arrays, static = eqx.partition(state, eqx.is_array)

        def scan(arrays: PyTree, batch: Batches) -> tuple[PyTree, Metrics]:
            state, metrics = update(eqx.combine(arrays, static), batch, key)
            return eqx.filter(state, eqx.is_array), metrics

        arrays, metrics = jax.lax.scan(scan, arrays, batches)
        averages = {n: x if n == ERRORS else x.mean() for n, x in metrics.items()}
        return eqx.combine(arrays, static), averages

    program = kept(run, repr((training, curiosity, stage, planned, learn)))

    def step(
        state: TrainingState, batches: Batches, key: PRNGKeyArray
    ) -> tuple[TrainingState, Metrics]:
        return program((batches, key), state)

    return step


def place(batches: Mapping[str, np.ndarray], batch_axis: int = 1) -> dict[str, Array]:
    """Batches on the device(s), split along the batch axis over all that divide it."""
    size = next(iter(batches.values())).shape[batch_axis]
    devices = jax.devices()
    number = max(n for n in range(1, len(devices) + 1) if size % n == 0)
    if number == 1:
        return {name: jnp.asarray(array) for name, array in batches.items()}
    mesh = Mesh(np.asarray(devices[:number]), ("data",))
    spec = PartitionSpec(*[None] * batch_axis, "data")
    return {k: jax.device_put(v, NamedSharding(mesh, spec)) for k, v in batches.items()}
