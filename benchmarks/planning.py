"""Milliseconds per planned action on this machine, against its measured matrix-product peak.

    .venv/bin/python benchmarks/planning.py                     every line below, one core
    .venv/bin/python benchmarks/planning.py --only rssm         our RSSM alone
    .venv/bin/python benchmarks/planning.py --batch 32          for so many environments at once

    latent 1.2M, 4.9M   MPPI, 512 samples x 6 iterations x horizon 3, in a latent MLP model of so
                        many parameters with an encoder: dynamics, reward, 2 or 5 values, of which a
                        plan asks two, and policy of two hidden layers each, as TD-MPC2
                        (arXiv 2310.16828) plans
    rssm                our RSSM at the cpu preset with the default planner, and a larger one

The share of peak counts 2 flops per parameter, sequence and imagined step, which is what planning
cannot do without, over the rate of a 1024 x 1024 product (8192 on an accelerator) in the same
minute. On a shared machine trust the best of several calls, and the share more than the time.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

from pipeline.environment import share_cores

share_cores(os.environ, 2)

import equinox as eqx  # noqa: E402  (after the environment is set)
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from pipeline.settings import load_study  # noqa: E402
from policies.actor import Actor  # noqa: E402
from policies.agent import task_objective  # noqa: E402
from policies.objectives import Objective  # noqa: E402
from policies.planners import build_planner  # noqa: E402
from policies.settings import BehaviourSettings, PlanningSettings  # noqa: E402
from stages.explore import fresh_agent  # noqa: E402
from tasks import registry  # noqa: E402
from tasks.contract import ActionSpec  # noqa: E402
from world_models.contract import State, WorldModel  # noqa: E402
from world_models.ensemble import Ensemble  # noqa: E402
from world_models.layers import MLP  # noqa: E402

CALLS = 7
ACTIONS = 6
ASKED = 2  # critics that a plan asks
LATENT = {"1.2M": (128, 384, 2), "4.9M": (512, 512, 5)}  # latent numbers, hidden units, critics
PLANNING = PlanningSettings.model_validate(
    {"samples": 512, "elites": 64, "iterations": 6, "horizon": 3, "lambda": 1.0}
)


class Latent(eqx.Module):
    """A deterministic latent model: the next state and the reward by networks of their own."""

    dynamics: MLP
    head: MLP
    critics: Ensemble

    def __init__(self, size: int, width: int, critics: int):
        keys = jax.random.split(jax.random.key(0), 3)
        sizes: dict[str, Any] = {"width": width, "layers": 2}
        self.dynamics = MLP(size + ACTIONS, size, **sizes, key=keys[0])
        self.head = MLP(size, 63, **sizes, key=keys[1])
        self.critics = Ensemble(critics, size, 63, **sizes, key=keys[2])

    def noise(self, key: Any, shape: tuple[int, ...] = ()) -> jax.Array:
        return jnp.zeros((*shape, 0))

    def imagine(self, state: jax.Array, action: jax.Array, noise: jax.Array) -> jax.Array:
        return jax.nn.tanh(self.dynamics(jnp.concatenate([state, action])))

    def root(self, state: jax.Array) -> jax.Array:
        return state

    def features(self, state: jax.Array) -> jax.Array:
        return state


class Wish(eqx.Module):
    """The model's own heads, and of its critics those drawn for this plan."""

    model: Latent
    asked: jax.Array  # which critics

    def reward(self, features: jax.Array, action: jax.Array, following: jax.Array) -> jax.Array:
        return jax.nn.softmax(self.model.head(following))[0]

    def discount(self, following: jax.Array) -> jax.Array:
        return jnp.full((), 0.99)

    def value(self, following: jax.Array) -> jax.Array:
        asked = jax.tree.map(lambda x: x[self.asked] if eqx.is_array(x) else x, self.model.critics)
        return jax.nn.softmax(asked(following))[:, 0].min()


def best(call: Callable[[], Any]) -> float:
    """Seconds of the fastest of several calls, once compiled."""
    jax.block_until_ready(call())
    taken = []
    for _ in range(CALLS):
        started = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - started)
    return min(taken)


def peak() -> float:
    """Floating-point operations per second of a large matrix product, as JAX does it by default:
    on an NVIDIA GPU its factors are rounded to TF32, in the plans' products as in this one."""
    side = 1024 if jax.default_backend() == "cpu" else 8192
    a = jax.random.normal(jax.random.key(0), (side, side))
    product = jax.jit(lambda a: a @ a)
    return 2 * side**3 / best(lambda: product(a))


def parameters(*parts: Any) -> int:
    """Weights of some networks."""
    return sum(x.size for x in jax.tree.leaves(parts) if eqx.is_inexact_array(x))


def measure(
    name: str,
    model: WorldModel,
    actor: Actor,
    objective: Objective,
    state: State,
    settings: PlanningSettings,
    stepped: int,
    batch: int,
) -> None:
    """Print the time of a plan; `stepped` weights take part in every imagined step."""
    planner = build_planner("mppi", settings)
    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape)), state)
    memory = jax.vmap(lambda _: planner.initial(actor))(jnp.arange(batch))
    keys = jax.random.split(jax.random.key(0), batch)

    @eqx.filter_jit
    def plan(model: Any, actor: Any, objective: Any) -> jax.Array:
        def one(state: Any, memory: Any, key: Any) -> jax.Array:
            return planner(model, actor, objective, state, memory, key, greedy=True).action

        return jax.vmap(one)(states, memory, keys)

    seconds = best(lambda: plan(model, actor, objective)) / batch
    flops = 2.0 * stepped * settings.samples * settings.iterations * settings.horizon
    share = flops / seconds / peak()
    print(
        f"{name:32} {1e3 * seconds:8.2f} ms per action {1 / seconds:7.1f} plans/s"
        f" {share:6.0%} of peak",
        flush=True,
    )


def latent(batch: int) -> None:
    """MPPI in latent MLP models."""
    for name, (size, width, critics) in LATENT.items():
        model = Latent(size, width, critics)
        behaviour = BehaviourSettings(width=width)
        action = ActionSpec("continuous", ACTIONS)
        actor = Actor(size, action, behaviour, key=jax.random.key(1))
        total = parameters(model, actor)
        asked = parameters(model.critics) * ASKED // critics
        measure(
            f"latent {name} ({total / 1e6:.2f} M)",
            model,  # pyright: ignore[reportArgumentType]  # what planning needs of a model
            actor,
            Wish(model, jax.random.permutation(jax.random.key(2), critics)[:ASKED]),
            jnp.zeros(size),
            PLANNING,
            parameters(model.dynamics, model.head) + asked // PLANNING.horizon,
            batch,
        )


def rssm(batch: int) -> None:
    """MPPI in the RSSM of the cpu preset."""
    study = load_study("desk").first
    spec = registry.spec(study.tasks.transfer[0], study.tasks)
    agent = fresh_agent(study, spec, 0, "transfer", curious=False)
    default = study.planning
    steps = parameters(agent.encoder.core, agent.dynamics, agent.reward_head)
    for settings in (default, default.model_copy(update={"samples": 512, "iterations": 6})):
        name = f"rssm {settings.samples} x {settings.iterations} x {settings.horizon}"
        critic = parameters(agent.critic.net) if settings.lambda_ < 1 else 0
        state, objective = agent.model.initial(), task_objective(agent)
        measure(name, agent.model, agent.actor, objective, state, settings, steps + critic, batch)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("latent", "rssm"))
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    device = jax.devices()[0].device_kind
    print(f"{device}, peak {peak() / 1e9:.0f} GFLOP/s, load {os.getloadavg()[0]:.1f}", flush=True)
    for part in (latent, rssm):
        if arguments.only in (None, part.__name__):
            part(arguments.batch)


if __name__ == "__main__":
    main()
