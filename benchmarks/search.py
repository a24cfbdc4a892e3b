"""Milliseconds of a tree search in our model, beside bare mctx over an MLP of the same size.

    .venv/bin/python benchmarks/search.py                one core, batch 32, 50 simulations, K = 20

    ours     `policies.search`: the MuZero-style model of the cpu preset on desk/reach, actions
             sampled anew at every node, the prior corrected for that
    bare     mctx.gumbel_muzero_policy with as many actions, a recurrent function of two MLPs with
             as many hidden layers and units, and nothing else
    update   what a learner's update takes with and without its parts

Both searches run by turns, so that what else the machine does falls on both; the best of several
calls counts. Also says whether a second search compiled anything (it must not), and refuses any
transfer between host and device inside one.
"""

import os
import time
from collections.abc import Callable
from typing import Any

from pipeline.environment import share_cores

share_cores(os.environ, 2)

import equinox as eqx  # noqa: E402  (after the environment is set)
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import mctx  # noqa: E402

from pipeline.settings import load_study  # noqa: E402
from policies.agent import Agent, agent_loss, task_objective  # noqa: E402
from policies.search import search  # noqa: E402
from stages.explore import fresh_agent  # noqa: E402
from stages.settings import Study  # noqa: E402
from tasks import registry  # noqa: E402
from world_models.layers import MLP  # noqa: E402

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
    """The fastest of several calls of each, by turns, once compiled."""
    for call in calls:
        jax.block_until_ready(call())
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(CALLS):
        for call, times in zip(calls, taken, strict=True):
            started = time.perf_counter()
            jax.block_until_ready(call())
            times.append(time.perf_counter() - started)
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

    def step(parts: Any, key: jax.Array, action: jax.Array, state: jax.Array) -> Any:
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

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(duration)

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
    parts(study, spec)


def parts(study: Study, spec: Any) -> None:
    """One update of batch 256 x 11 with 16 simulations, K = 16, by what it does without a part."""
    settings = study.planning.search.model_copy(
        update={"simulations": 16, "actions": 16, "considered": 8}
    )
    planning = study.planning.model_copy(update={"search": settings})
    shape, keys = (256, 11), jax.random.split(jax.random.key(2), 3)
    batch = {
        "state": jax.random.normal(keys[0], (*shape, *spec.observation["state"].shape)),
        "action": jax.random.uniform(keys[1], (*shape, spec.action.size), minval=-1.0),
        "reward": jax.random.uniform(keys[2], shape),
        "is_first": jnp.zeros(shape, bool),
        "is_terminal": jnp.zeros(shape, bool),
    }
    plain = study.model_copy(update={"planning": planning})
    alone = plain.model_copy(
        update={
            "planning": planning.model_copy(update={"learn": "none"}),
            "muzero": study.muzero.model_copy(update={"spr_scale": 0.0}),
        }
    )
    supervised = alone.model_copy(update={"muzero": study.muzero})
    calls = []
    for variant in (plain, supervised, alone):
        agent = fresh_agent(variant, spec, 0, "transfer", curious=False)

        @eqx.filter_jit
        def gradients(agent: Any, batch: Any, key: jax.Array) -> Any:
            def loss(agent: Any) -> jax.Array:
                dtype = jnp.dtype("float32")
                return agent_loss(agent, batch, key, stage="transfer", dtype=dtype)[0]

            return eqx.filter_grad(loss)(agent)

        key = jax.random.key(0)
        calls.append(lambda g=gradients, a=agent, k=key: g(a, batch, k))
    whole, without, least = (1e3 * x for x in seconds(*calls))
    print(f"loss and gradients, batch 256 x 11, 16 simulations: {whole:.1f} ms, of which")
    print(f"  search {whole - without:.1f}, SPR {without - least:.1f}, the rest {least:.1f}")


if __name__ == "__main__":
    main()
