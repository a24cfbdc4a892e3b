"""CPU milliseconds to draw one call's batches from replay, all alike and by priority.

    .venv/bin/python benchmarks/replay.py          10 updates of 256 sequences of 11 rows, desk

For several numbers of rows held, in memory and in eight streams; the best of several calls counts.
Errors of one call's sequences are given back after each draw, as training does.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.environment import share_cores

share_cores(os.environ, 2)

import numpy as np  # noqa: E402  (after the environment is set)

from stages.priorities import Priorities  # noqa: E402
from stages.replay import Replay  # noqa: E402
from stages.settings import ReplaySettings  # noqa: E402

SHAPE, LENGTH, STREAMS, CALLS = (10, 256), 11, 8, 7


def filled(rows: int, folder: Path) -> Replay:
    """A replay of so many rows of the desk's size."""
    row: dict[str, Any] = {"state": np.zeros(22, np.float32), "action": np.zeros(2, np.float32)}
    row |= {"reward": np.float32(0), "is_first": np.bool_(False)}
    example = {name: np.asarray(value) for name, value in row.items()}
    replay = Replay(example, STREAMS, ReplaySettings(), folder)
    many = {name: np.stack([value] * STREAMS) for name, value in example.items()}
    for _ in range(rows // STREAMS):
        replay.append(many, np.zeros(STREAMS, bool))
    return replay


def best(call: Callable[[], Any]) -> float:
    """CPU milliseconds of the fastest of several calls."""
    taken = []
    for _ in range(CALLS):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return 1e3 * min(taken)


def main() -> None:
    """Measure and print a table."""
    print(f"{SHAPE[0]} x {SHAPE[1]} sequences of {LENGTH} rows; load {os.getloadavg()[0]:.1f}")
    print(f"{'rows held':>10}  {'alike':>9}  {'priority 1':>10}  {'priority 0.6':>12}")
    for rows in (10_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            replay, rng = filled(rows, Path(folder)), np.random.default_rng(0)
            shown = [best(lambda r=replay, g=rng: r.sample(g, SHAPE, LENGTH))]
            for exponent in (1.0, 0.6):
                replay.priorities = Priorities(STREAMS, ReplaySettings(priority=exponent))

                def draw(replay: Replay = replay, rng: np.random.Generator = rng) -> None:
                    _, drawn = replay.sample_by_priority(rng, SHAPE, LENGTH)
                    replay.learnt(drawn, rng.random(SHAPE, np.float32))

                shown.append(best(draw))
        print("{:>10,}  {:>6.1f} ms  {:>7.1f} ms  {:>9.1f} ms".format(rows, *shown), flush=True)


if __name__ == "__main__":
    main()
