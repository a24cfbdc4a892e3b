"""Env steps per second of a suite in this process and in worker processes, by turns in one run.

    .venv/bin/python benchmarks/stepping.py
    .venv/bin/python benchmarks/stepping.py --tasks robodesk/push_green crafter/reward --workers 2
    .venv/bin/python benchmarks/stepping.py --tasks metaworld/reach --beside metaworld_envpool

State observations, random actions, eight environments. The ways are measured by turns, so that
what else the machine does weighs on all; the ratios are those of the medians. `--beside SUITE` also
steps the tasks of the same names in another suite, in this process, and compares them with the
workers. Resets are part of it, and so is what EnvPool needs to begin an episode.
"""

import argparse
import statistics
import time

import numpy as np

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
    parser.add_argument("--beside", help="another suite with tasks of the same names")
    given = parser.parse_args()
    labels = ["one process", f"{given.workers} workers", "ratio"]
    labels += [given.beside, "to workers"] if given.beside else []
    print(f"{'task':28}", *(f"{label:>18}" for label in labels))
    for name in given.tasks:
        ways = [(name, 0), (name, given.workers)]
        if given.beside:
            ways.append((f"{given.beside}/{name.partition('/')[2]}", 0))
        one, more, *beside = medians(ways, given.environments, given.seconds, given.turns)
        cells = [f"{one:18.0f}", f"{more:18.0f}", f"{more / one:18.2f}"]
        cells += [cell for rate in beside for cell in (f"{rate:18.0f}", f"{rate / more:18.2f}")]
        print(f"{name:28}", *cells, flush=True)


def medians(
    ways: list[tuple[str, int]], environments: int, seconds: float, turns: int
) -> list[float]:
    """Env steps per second of each way, a task and a number of workers; measured by turns."""
    options = TaskOptions(observe=("state",))
    seeds = list(range(environments))
    vectors = [make_vector(name, options, seeds, workers, 60.0) for name, workers in ways]
    for vector in vectors:
        vector.reset()
        rate(vector, vector.spec.action, seconds / 4)
    found = [[rate(v, v.spec.action, seconds) for v in vectors] for _ in range(turns)]
    for vector in vectors:
        vector.close()
    return [statistics.median(rates) for rates in zip(*found, strict=True)]


if __name__ == "__main__":
    main()
