"""Env steps per second of a suite in this process and in worker processes, by turns in one run.

    .venv/bin/python benchmarks/stepping.py
    .venv/bin/python benchmarks/stepping.py --tasks robodesk/push_green crafter/reward --workers 2

State observations, random actions, eight environments. The two ways are measured by turns, so that
what else the machine does weighs on both; the ratio is that of the medians.
"""

import argparse
import statistics
import time

import numpy as np

from tasks import registry
from tasks.contract import ActionSpec, VectorTasks
from tasks.settings import TaskOptions
from tasks.vector import make_vector

TASKS = (
    "desk/push_left:sparse",
    "robodesk/open_slide",
    "metaworld/reach",
    "metaworld/drawer-open",
    "metaworld/pick-place",
    "crafter/reward",
    "maze/ghost",
)


def draw(action: ActionSpec, number: int, rng: np.random.Generator) -> np.ndarray:
    """Random actions of a batch, as the simulator takes them."""
    if action.kind == "discrete":
        return rng.integers(action.size, size=number)
    return rng.uniform(-1, 1, (number, action.size)).astype(np.float32)


def rate(vector: VectorTasks, action: ActionSpec, seconds: float) -> float:
    """Env steps per second over about so many seconds."""
    rng = np.random.default_rng(0)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        steps += int((~vector.step(draw(action, vector.number, rng))["is_first"]).sum())
    return steps / (time.perf_counter() - started)


def main() -> None:
    """Measure every task and print a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="tasks by name")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--environments", type=int, default=8, help="environments in all")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one turn")
    parser.add_argument("--turns", type=int, default=5, help="turns of each way")
    given = parser.parse_args()
    print(f"{'task':28} {'one process':>12} {f'{given.workers} workers':>12} {'ratio':>6}")
    for name in given.tasks:
        options = TaskOptions(observe=("state",))
        action = registry.spec(name, options).action
        seeds = list(range(given.environments))
        ways = [make_vector(name, options, seeds, workers, 60.0) for workers in (0, given.workers)]
        rates: list[list[float]] = [[], []]
        for vector in ways:
            vector.reset()
            rate(vector, action, given.seconds / 4)
        for _ in range(given.turns):
            for vector, found in zip(ways, rates, strict=True):
                found.append(rate(vector, action, given.seconds))
        for vector in ways:
            vector.close()
        one, more = map(statistics.median, rates)
        print(f"{name:28} {one:12.0f} {more:12.0f} {more / one:6.2f}", flush=True)


if __name__ == "__main__":
    main()
