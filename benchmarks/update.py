"""Milliseconds per update and per action of the agent, on this machine.

    .venv/bin/python benchmarks/update.py                    the cpu preset's desk agent
    .venv/bin/python benchmarks/update.py --set model.width=256 --set behaviour.width=256

One thread, CPU seconds beside wall seconds: on a shared machine trust the former. Each line is the
best of several calls of ten scanned updates, after warm-up.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

from pipeline.environment import share_cores

share_cores(os.environ, 2)

import jax  # noqa: E402  (after the environment is set)
import numpy as np  # noqa: E402

from pipeline.settings import load_study  # noqa: E402
from policies.agent import fresh_memory  # noqa: E402
from policies.settings import PlanningSettings  # noqa: E402
from stages.acting import jitted_act  # noqa: E402
from stages.explore import fresh_agent  # noqa: E402
from stages.settings import Study  # noqa: E402
from stages.training_step import build_step, initial_state, place  # noqa: E402
from tasks import registry  # noqa: E402
from tasks.contract import TaskSpec  # noqa: E402

CALLS = 5


def batches(study: Study, spec: TaskSpec) -> dict[str, Any]:
    """Random batches of one call."""
    training = study.training
    shape = (training.updates_per_call, training.batch_size, training.batch_length)
    rng = np.random.default_rng(0)
    out: dict[str, np.ndarray] = {
        name: rng.integers(0, 255, (*shape, *s.shape)).astype(s.dtype)
        if s.dtype == "uint8"
        else rng.normal(size=(*shape, *s.shape)).astype(np.float32)
        for name, s in spec.observation.items()
    }
    out["action"] = rng.uniform(-1, 1, (*shape, spec.action.size)).astype(np.float32)
    out["reward"] = rng.uniform(size=shape).astype(np.float32)
    out["reward_known"] = np.ones(shape, np.float32)
    out["is_first"] = rng.uniform(size=shape) < 0.01
    out["is_terminal"] = np.zeros(shape, bool)
    return place(out)


def measure(name: str, call: Callable[[], Any], repeats: int, per: int) -> None:
    """Print the best wall and CPU milliseconds of a call."""
    call()
    wall, cpu = [], []
    for _ in range(CALLS):
        w, c = time.perf_counter(), time.process_time()
        for _ in range(repeats):
            result = call()
        jax.block_until_ready(result)  # pyright: ignore[reportPossiblyUnboundVariable]
        wall.append(time.perf_counter() - w)
        cpu.append(time.process_time() - c)
    unit = 1e3 / (repeats * per)
    print(f"{name:26} {min(wall) * unit:8.2f} ms wall {min(cpu) * unit:8.2f} ms cpu")


def main() -> None:
    """Measure updates of explore and transfer, without and with a carried explorer, and acting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="desk")
    parser.add_argument("--preset", default=None)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    study = load_study(arguments.study, arguments.preset, arguments.set).first
    spec = registry.spec(study.tasks.transfer[0], study.tasks)
    training = study.training
    for stage, curious in (("explore", True), ("transfer", False), ("transfer", True)):
        name = f"{stage}, curious" if stage == "transfer" and curious else stage
        agent = fresh_agent(study, spec, 0, stage, curious=curious)
        step = build_step(training, study.curiosity, stage, 1000)  # pyright: ignore[reportArgumentType]
        data, key = batches(study, spec), jax.random.key(0)
        held = [initial_state(agent, training)]

        def update(step: Any = step, data: Any = data, key: Any = key, held: Any = held) -> Any:
            held[0], metrics = step(held[0], data, key)
            return metrics

        started = time.perf_counter()
        jax.block_until_ready(update())
        print(f"{name}: first call {time.perf_counter() - started:.1f} s (compilation)")
        measure(f"{name} update", update, 1, training.updates_per_call)
    number = training.environments
    act = jitted_act("none", PlanningSettings(), False)  # pyright: ignore[reportArgumentType]
    memory = fresh_memory(agent, number)
    observation = {k: np.zeros((number, *s.shape), s.dtype) for k, s in spec.observation.items()}
    first = np.zeros(number, bool)
    measure(
        f"act, {number} environments",
        lambda: np.asarray(act(agent, memory, observation, first, key, np.uint32(0))[0]),
        50,
        1,
    )


if __name__ == "__main__":
    main()
