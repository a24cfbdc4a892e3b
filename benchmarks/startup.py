"""Seconds from the command to its first updates that are no work: imports, building, compiling.

    .venv/bin/python benchmarks/startup.py                  exploration of desk, three starts
    .venv/bin/python benchmarks/startup.py --study robodesk --runs 5

Each run is a fresh `craik explore` of one seed, ended as soon as its metrics tell of the first 100
updates. What its stopwatch counted as work until then (env steps, acting, replay, updates) is taken
off. The first run may have to compile; the others find the programs in the compilation cache.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
WORK = ("update", "policy", "simulator", "replay", "checkpoint", "evaluation")
LOOK = 0.005  # s between looks at the metrics


def first_row(folder: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The first row of times that the job writes."""
    path = folder / "explore" / "seed-0" / "metrics.jsonl"
    while process.poll() is None:
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        for line in lines:
            if line.endswith("\n") and (row := json.loads(line))["kind"] == "time":
                return row
        time.sleep(LOOK)
    raise SystemExit(f"the command ended with exit code {process.returncode}")


def start(study: str, overrides: list[str]) -> tuple[float, dict[str, Any]]:
    """Seconds of one start, and the stopwatch's own row."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        words = ["explore", study, "--out", str(folder), "--jobs", "1", "--set", "seeds=1"]
        words += [word for override in overrides for word in ("--set", override)]
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", *words],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )
        row = first_row(folder, process)
        seconds = time.perf_counter() - started
        process.kill()
        process.wait()
    return seconds - sum(row[part] for part in WORK), row


def main() -> None:
    """Print a line per start."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", default="desk", help="a study file or a ready-made one (desk)")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--runs", type=int, default=3, help="how many starts (3)")
    given = parser.parse_args()
    for number in range(1, given.runs + 1):
        seconds, row = start(given.study, given.overrides)
        print(
            f"start {number}: {seconds:5.2f} s to the first update, of which compiling or loading "
            f"programs {row['compile']:5.2f} s; {row['updates']} updates in {row['update']:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
