"""CPU milliseconds of a tree search in our model, beside bare mctx over an MLP of the same size.

    .venv/bin/python benchmarks/search.py                one core, batch 32, 50 simulations, K = 20

    ours     `policies.search`: the MuZero-style model of the cpu preset on desk/reach, actions
             sampled anew at every node, the prior corrected for that
    bare     mctx.gumbel_muzero_policy with as many actions, a recurrent function of two MLPs with
             as many hidden layers and units, and nothing else
    update   where the time of one update of the MuZero-style agent of `transfer-muzero` goes: the
             whole, its optimiser, and its gradients with and without a part are timed, and the
             rest are differences

Both searches run by turns, so that what else the machine does falls on both; the best of several
calls counts. Also says whether a second search compiled anything (it must not), and refuses any
transfer between host and device inside one.
"""

import os
import time
from collections.abc import Callable
from typing import Any, cast

from pipeline.environment import share_cores

share_cores(os.environ, 2)

import equinox as eqx  # noqa: E402  (after the environment is set)
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import mctx  # noqa: E402

from pipeline.settings import load_study  # noqa: E402
from policies.agent import Agent, LossAux, agent_loss, settle, task_objective  # noqa: E402
from policies.search import search  # noqa: E402
from stages.explore import fresh_agent  # noqa: E402
from stages.optimiser import build_optimiser, descend, learning_rates  # noqa: E402
from stages.settings import Study  # noqa: E402
from stages.training_step import build_step, initial_state  # noqa: E402
from tasks import registry  # noqa: E402
from world_models.layers import MLP  # noqa: E402
from world_models.running import trainable  # noqa: E402

BATCH, CALLS = 32, 7
SETS = (
    'tasks.transfer=["desk/reach:dense"]',
    'agent.world_model="muzero"',
    'planning.learn="mcts"',
    "planning.search.simulations=50",
    "planning.search.actions=20",
    "planning.search.considered=16",
)


def seconds(*calls: Callable[[], Any]) -> list[float]:
    """CPU seconds of the fastest of several calls of each, by turns, once compiled."""
    for call in calls:
        jax.block_until_ready(call())
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(CALLS):
        for call, times in zip(calls, taken, strict=True):
            started = time.process_time()
            jax.block_until_ready(call())
            times.append(time.process_time() - started)
    return [min(times) for times in taken]


def ours(agent: Agent, study: Study) -> Callable[[], Any]:
    """A search from latents, of arrays that are on the device already."""
    key, latents = jax.random.key(0), jax.random.normal(jax.random.key(1), (BATCH, 128))
    settings = study.planning.search

    @eqx.filter_jit
    def run(agent: Any, latents: jax.Array, key: jax.Array) -> Any:
        arguments = (agent.model, agent.actor, task_objective(agent), latents, key, settings)
        return search(*arguments, greedy=False)

    return lambda: run(agent, latents, key)


def bare(study: Study) -> Callable[[], Any]:
    """Bare mctx over MLPs of the same layers and units."""
    number, latent = study.planning.search.actions, study.muzero.latent
    width, layers, bins = study.model.width, study.model.layers, study.model.bins
    keys = jax.random.split(jax.random.key(0), 3)
    dynamics = MLP(latent + number, latent, width=width, layers=layers, key=keys[0])
    heads = MLP(latent, number + 2 * bins + 1, width=3 * width, layers=1, key=keys[1])
    Root: Any = mctx.RootFnOutput
    Step: Any = mctx.RecurrentFnOutput

    def read(parts: Any, state: jax.Array) -> Any:
        out = jax.vmap(parts[1])(state)
        return out[:, :number], out[:, number : number + bins].mean(-1), out[:, -1]

    def step(parts: Any, key: jax.Array, action: Any, state: Any) -> Any:
        inputs = jnp.concatenate([state, jax.nn.one_hot(action, number)], -1)
        state = jax.vmap(parts[0])(inputs)
        logits, value, reward = read(parts, state)
        discount = jnp.full(BATCH, 0.97)
        return Step(reward=reward, discount=discount, prior_logits=logits, value=value), state

    @eqx.filter_jit
    def run(parts: Any, state: jax.Array, key: jax.Array) -> Any:
        logits, value, _ = read(parts, state)
        return mctx.gumbel_muzero_policy(
            parts,
            key,
            Root(prior_logits=logits, value=value, embedding=state),
            step,
            study.planning.search.simulations,
            max_num_considered_actions=study.planning.search.considered,
        ).action_weights

    state = jax.random.normal(keys[2], (BATCH, latent))
    return lambda: run((dynamics, heads), state, keys[0])


def compiled_by(call: Callable[[], Any]) -> int:
    """How many programs a call compiles, transfers being an error."""
    events: list[float] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    with jax.transfer_guard("disallow"):
        jax.block_until_ready(call())
    return len(events)


def main() -> None:
    """Measure and print."""
    study = load_study("desk", None, SETS).first
    spec = registry.spec(study.tasks.transfer[0], study.tasks)
    agent = fresh_agent(study, spec, 0, "transfer", curious=False)
    own, peer = ours(agent, study), bare(study)
    mine, theirs = seconds(own, peer)
    print(f"load {os.getloadavg()[0]:.1f}; 50 simulations, K = 20, batch {BATCH}", flush=True)
    print(
        f"ours {1e3 * mine:7.1f} ms   bare mctx {1e3 * theirs:7.1f} ms   {mine / theirs:.2f} times"
    )
    print(f"compiled by one search more: {compiled_by(own)}; transfers: none", flush=True)
    parts()


def parts() -> None:
    """Where the time of one update of the MuZero-style agent goes at the cpu preset."""
    study = load_study("transfer-muzero").variants["muzero"]
    study = study.model_copy(
        update={"training": study.training.model_copy(update={"updates_per_call": 1})}
    )
    spec = registry.spec(study.tasks.transfer[0], study.tasks)
    training, key = study.training, jax.random.key(0)
    batch = random_batch(spec, training.batch_size, training.batch_length)
    without = study.model_copy(update={"muzero": study.muzero.model_copy(update={"spr_scale": 0})})
    alone = without.model_copy(
        update={"planning": study.planning.model_copy(update={"learn": "none"})}
    )

    def whole() -> Callable[[], Any]:
        step = build_step(training, study.curiosity, "transfer", 1000)  # pyright: ignore
        held = [initial_state(fresh_agent(study, spec, 0, "transfer", curious=False), training)]
        batches = jax.tree.map(lambda x: x[None], batch)

        def call() -> Any:
            held[0], metrics = step(held[0], batches, key)
            return metrics

        return call

    def gradients(variant: Study) -> Callable[[], Any]:
        agent = fresh_agent(variant, spec, 0, "transfer", curious=False)

        @eqx.filter_jit
        def run(agent: Agent, batch: Any, key: jax.Array) -> Any:
            params, rest = eqx.partition(agent, trainable(agent))

            def loss(params: Any) -> jax.Array:
                whole, dtype = eqx.combine(params, rest), jnp.dtype("float32")
                return agent_loss(whole, batch, key, stage="transfer", dtype=dtype)[0]

            return eqx.filter_grad(loss)(params)

        return lambda: run(agent, batch, key)

    def optimiser() -> Callable[[], Any]:
        """Clipping, moments, the step and the slow copies."""
        agent = fresh_agent(study, spec, 0, "transfer", curious=False)
        chain, rates = build_optimiser(training), learning_rates(training, 1e-3)
        params, rest = eqx.partition(agent, trainable(agent))

        @eqx.filter_jit
        def run(params: Any, state: Any) -> Any:
            raw, state = chain.update(params, state, params)
            steps = cast(Any, raw)  # of the agent's structure, which optax cannot tell
            moved = eqx.apply_updates(params, descend(steps, rates, jnp.ones(())))
            return settle(eqx.combine(moved, rest), LossAux({}, None, None)), state

        held = chain.init(params)
        return lambda: run(params, held)

    update, full, no_spr, least, steps = (
        1e3 * x
        for x in seconds(
            whole(), gradients(study), gradients(without), gradients(alone), optimiser()
        )
    )
    named = {
        "search for targets": no_spr - least,
        "self-supervision (SPR)": full - no_spr,
        "encoder, unroll, heads, decoder": least,
        "optimiser and slow copies": steps,
    }
    search, size = study.planning.search, f"{training.batch_size} x {training.batch_length}"
    print(f"one update, batch {size}, {search.simulations} simulations, K = {search.actions}:")
    for name, taken in named.items():
        print(f"  {name:32} {taken:7.1f} ms {taken / update:6.0%}")
    rest = update - sum(named.values())
    print(f"  {'what is left of the whole':32} {rest:7.1f} ms {rest / update:6.0%}")
    print(f"  {'the whole, timed by itself':32} {update:7.1f} ms")


def random_batch(spec: Any, size: int, length: int) -> dict[str, jax.Array]:
    """A batch [B, T] of one long episode."""
    shape, keys = (size, length), jax.random.split(jax.random.key(2), 3)
    return {
        "state": jax.random.normal(keys[0], (*shape, *spec.observation["state"].shape)),
        "action": jax.random.uniform(keys[1], (*shape, spec.action.size), minval=-1.0),
        "reward": jax.random.uniform(keys[2], shape),
        "reward_known": jnp.ones(shape),
        "is_first": jnp.zeros(shape, bool),
        "is_terminal": jnp.zeros(shape, bool),
    }


if __name__ == "__main__":
    main()
