"""A long job's memory: what it holds after warming up, it holds at its end."""

import gc
import resource
from pathlib import Path

import pytest

from stages import training_loop, transfer
from tests import tiny

TASK = "desk/reach:dense"
STEPS = 9_000
WARM = 3_000  # env steps, past which replay gives up as much as it takes


def resident() -> float:
    """Resident set of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_a_long_job_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, float]] = []
    points = training_loop.TrainingLoop._points

    def looked(loop: training_loop.TrainingLoop) -> None:
        points(loop)
        if loop.counters.env_steps >= WARM + len(seen) * 1_000:
            gc.collect()
            seen.append((loop.counters.env_steps, len(gc.get_objects()), resident()))

    monkeypatch.setattr(training_loop.TrainingLoop, "_points", looked)
    study = tiny.study(
        TASK,
        transfer={"steps": STEPS},
        training={"env_steps_per_update": 8.0},
        replay={"chunk": 64, "memory_gib": 1e-4, "disk_gib": 3e-4},
        evaluate={"curve_points": 9},
    )
    transfer.run(study, transfer.Inputs(TASK, "scratch", 0), tmp_path)
    (_, objects, size), (_, objects_later, size_later) = seen[0], seen[-1]
    assert len(seen) > 5
    assert objects_later - objects < 1_000, seen
    assert size_later - size < 8, seen
