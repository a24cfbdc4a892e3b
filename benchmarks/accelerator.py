"""Updates per second of the training step on an accelerator, and what bounds them.

    python benchmarks/accelerator.py                           paper preset: images, bfloat16
    python benchmarks/accelerator.py --seeds 1 2 4 8           so many seeds in one call, by vmap
    python benchmarks/accelerator.py --preset cpu --set 'tasks.observe=["state"]' --seeds 1 8 32

Floating-point operations are those of the products in the traced program, every step of a loop
counted; the peak is that of a large product in the update's own precision, timed in the same
minute. Busy is the share of wall time in which at least one kernel runs, from a profile of further
calls; the kernels that take most of it are listed, with how often each runs in an update.
"""

import argparse
import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from update import batches  # sets the environment, before JAX opens a device

from pipeline.settings import load_study
from stages.explore import fresh_agent
from stages.settings import Study
from stages.training_step import build_step, initial_state
from tasks import registry

CALLS = 5
SIDE = {"cpu": 1024}  # of the product whose rate is the peak; others 8192
KERNELS = 8


def peak(dtype: str) -> float:
    """Floating-point operations per second of a large product."""
    side = SIDE.get(jax.default_backend(), 8192)
    a = jax.random.normal(jax.random.key(0), (side, side), dtype)
    product = jax.jit(lambda a: a @ a)
    return 2 * side**3 / best(lambda: product(a), repeats=10)


def best(call: Callable[[], Any], repeats: int = 1) -> float:
    """Seconds of a call, the fastest of several rows of `repeats`, once compiled."""
    jax.block_until_ready(call())
    taken = []
    for _ in range(CALLS):
        started = time.perf_counter()
        for _ in range(repeats):
            result = call()
        jax.block_until_ready(result)  # pyright: ignore[reportPossiblyUnboundVariable]
        taken.append((time.perf_counter() - started) / repeats)
    return min(taken)


def flops(jaxpr: Any) -> float:
    """Operations of all products in a traced program."""
    total = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            (left, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            out = math.prod(equation.outvars[0].aval.shape)
            total += 2.0 * out * math.prod(shape[i] for i in left)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            dilated = math.prod(equation.params["lhs_dilation"])
            out = math.prod(equation.outvars[0].aval.shape)
            total += 2.0 * out * math.prod(kernel) / outputs / dilated
        repeats = equation.params.get("length", 1) if name == "scan" else 1
        total += repeats * sum(flops(inner) for inner in inside(equation.params))
    return total


def inside(params: dict[str, Any]) -> Iterator[Any]:
    """The programs that an equation calls."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            one = getattr(one, "jaxpr", one)
            if hasattr(one, "eqns"):
                yield one


def profile(call: Callable[[], Any], updates: int) -> None:
    """Print how busy the device is, and with what."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(call())
        found = sorted(Path(folder).rglob("*.xplane.pb"))
        data = jax.profiler.ProfileData.from_file(str(found[-1]))
        events = [
            (event.start_ns, event.start_ns + event.duration_ns, event.name)
            for plane in data.planes
            if "/device:" in plane.name
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
        ]
    if not events:
        print("  no trace of the device")
        return
    events.sort()
    busy, until = 0.0, 0.0
    for start, end, _ in events:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    whole = until - events[0][0]
    print(f"  busy {busy / whole:.0%} of {whole / 1e6:.1f} ms; {len(events) / updates:.0f} kernels")
    taken, number = Counter[str](), Counter[str]()
    for start, end, name in events:
        kind = re.sub(r"[\d_]+$", "", re.sub(r"\.\d+", "", name))[:60]
        taken[kind] += end - start
        number[kind] += 1
    for kind, nanoseconds in taken.most_common(KERNELS):
        each = f"{nanoseconds / updates / 1e6:6.2f} ms {number[kind] / updates:7.1f} times"
        print(f"    {nanoseconds / busy:4.0%} {each}  {kind}", flush=True)


def measure(study: Study, stage: str, seeds: int, limit: float) -> None:
    """Print what a training step of so many seeds in one call comes to."""
    spec = registry.spec(study.tasks.transfer[0], study.tasks)
    training = study.training
    curious = stage == "explore"
    agents = [fresh_agent(study, spec, seed, stage, curious=curious) for seed in range(seeds)]
    states = [initial_state(agent, training) for agent in agents]
    step = build_step(training, study.curiosity, stage, 1000)  # pyright: ignore[reportArgumentType]
    data = batches(study, spec)
    key = jax.random.key(0)
    if seeds == 1:
        held = [states[0]]
    else:
        held = [jax.tree.map(lambda *x: jnp.stack(x) if eqx.is_array(x[0]) else x[0], *states)]
        data = {name: jnp.broadcast_to(x, (seeds, *x.shape)) + 0 * x for name, x in data.items()}
        key = jax.random.split(key, seeds)
        step = eqx.filter_vmap(step)

    def call() -> Any:
        held[0], metrics = step(held[0], data, key)
        return metrics

    work = flops(jax.make_jaxpr(lambda: step(*copied((held[0], data, key))))().jaxpr)
    started = time.perf_counter()
    jax.block_until_ready(call())
    compiled = time.perf_counter() - started
    seconds = best(call)
    updates = training.updates_per_call
    weights = sum(x.size for x in jax.tree.leaves(agents[0]) if eqx.is_inexact_array(x))
    print(
        f"{stage}, {seeds} seeds, {weights / 1e6:.1f} M weights: {1e3 * seconds / updates:.2f} ms"
        f" per update, {1e3 * seconds / updates / seeds:.2f} per seed,"
        f" {seeds * updates / seconds:.1f} updates/s, {work / updates / 1e9:.1f} GFLOP,"
        f" {work / seconds / 1e12:.3f} TFLOP/s, {work / seconds / limit:.2%} of peak,"
        f" first call {compiled:.0f} s",
        flush=True,
    )
    profile(call, updates)


def copied(tree: Any) -> Any:
    """The same arrays again, which a call may consume."""
    return jax.tree.map(lambda x: jnp.array(x) if eqx.is_array(x) else x, tree)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="desk")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--stages", nargs="+", default=["transfer"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    arguments = parser.parse_args()
    given = arguments.set or ['tasks.observe=["image"]']
    study = load_study(arguments.study, arguments.preset, given).first
    device = jax.devices()[0]
    limit = peak(study.training.precision)
    print(f"{device.device_kind}, jax {jax.__version__}, numpy {np.__version__}")
    print(f"peak {limit / 1e12:.2f} TFLOP/s in {study.training.precision}", flush=True)
    for stage in arguments.stages:
        for seeds in arguments.seeds:
            measure(study, stage, seeds, limit)


if __name__ == "__main__":
    main()
