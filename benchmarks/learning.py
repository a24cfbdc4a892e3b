"""Does every agent learn? `assets/studies/learning.toml`, held against a bar.

    .venv/bin/python benchmarks/learning.py                    about 10 minutes on one core
    .venv/bin/python benchmarks/learning.py --out runs/learning --set seeds=3

Each agent's final return stands between the random policy's (0) and the scripted one's (1), on the
same fresh episodes. Below the bar of a task it has not learnt it, and the exit code is 1. The bars
lie well below what was reached when they were set, and far above what an untrained agent reaches.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from pipeline.run import run
from pipeline.settings import load_study
from stages.result_types import TaskResult
from stages.results import VariantResults, collect

BARS = {"desk/reach:dense": 0.7, "maze/collect:small": 0.25}


def standing(result: TaskResult) -> list[float]:
    """Final returns of the arm `scratch`, from random (0) to scripted (1), a number per seed."""
    low, high = result.references["random"], result.references["oracle"]
    finals = [row.final for row in result.arms["scratch"].seeds if row.final is not None]
    return [(final - low) / (high - low) for final in finals]


def main() -> int:
    """Run, print the table, say whether every bar was passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="a run folder to keep, or to go on with")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    study = load_study("learning", None, options.overrides)
    passed = True
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        run(study, out, jobs=options.jobs)
        results = collect(out)
        assert isinstance(results, VariantResults), "the study has variants"
        print(f"{'agent':10} {'task':20} {'bar':>5}  from random (0) to scripted (1), by seed")
        for agent, loop in results.variants.items():
            for task, result in loop.tasks.items():
                found = standing(result)
                good = bool(found) and min(found) >= BARS[task]
                passed &= good
                shown = ", ".join(f"{x:.2f}" for x in found)
                print(
                    f"{agent:10} {task:20} {BARS[task]:5.2f}  {shown}{'' if good else '  FAILED'}"
                )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
