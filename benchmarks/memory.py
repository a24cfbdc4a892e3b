"""Memory and disk of single jobs, as `craik plan` estimates them and as they are measured.

    .venv/bin/python benchmarks/memory.py                      the desk study, an exploration first
    .venv/bin/python benchmarks/memory.py robodesk --set explore.steps=2_000
    .venv/bin/python benchmarks/memory.py desk --set 'tasks.observe=["image"]' --stages explore

Every job runs in a process of its own, as `craik run` has it; what is measured is the peak of its
resident memory (VmHWM, so Linux only) and the bytes of its folder. The estimate is made for the
very settings that run. A ratio is estimate / measured: 1 is right, above 1 is cautious.
"""

import argparse
import multiprocessing
import os
import tempfile
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.environment import share_cores
from pipeline.jobs import STAGES, Job, Stage, build
from pipeline.plan import size
from pipeline.run import prepare, specs_of
from pipeline.settings import load_study
from pipeline.work import STAGE_MODULES, Task, do
from stages.settings import Study

MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One job: what was estimated and what was measured, bytes."""

    job: str
    memory_estimated: int
    memory_measured: int
    disk_estimated: int
    disk_measured: int

    @property
    def memory_ratio(self) -> float:
        """Estimate / measured."""
        return self.memory_estimated / self.memory_measured

    @property
    def disk_ratio(self) -> float:
        """Estimate / measured."""
        return self.disk_estimated / self.disk_measured


def measure(study: Study, root: Path, stages: tuple[Stage, ...]) -> list[Row]:
    """Run the first job of each stage, and estimate it.

    Raises:
        RuntimeError: a job fails.
    """
    from stages.estimates import estimate

    specs = specs_of(study)
    rows = []
    for job in _chosen(study, stages):
        memory = _run(job, root)
        found = estimate(study, specs[job.task], job.stage, job.env_steps, job.curious)
        disk = sum(p.stat().st_size for p in (root / job.id).rglob("*") if p.is_file())
        rows.append(Row(job.id, found["memory_bytes"], memory, found["disk_bytes"], disk))
    return rows


def _chosen(study: Study, stages: tuple[Stage, ...]) -> list[Job]:
    """Of each stage the job of the last arm (which carries most in the ready-made studies)."""
    jobs = build({None: study}).jobs.values()
    arm = list(study.transfer.arms)[-1]
    chosen = {
        job.stage: job
        for job in reversed(jobs)
        if job.stage in stages and not job.random and job.arm in (None, arm)
    }
    return [chosen[stage] for stage in STAGES if stage in chosen]


def _run(job: Job, root: Path) -> int:
    """Run a job in a process of its own; the peak of its resident memory, bytes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(Task(job, root, "bench", STAGE_MODULES), theirs))
    process.start()
    theirs.close()
    message, peak = ours.recv()
    process.join()
    if message:
        raise RuntimeError(f"{job.id}: {message}")
    return peak


def _child(task: Task, pipe: Connection) -> None:
    result = do(task)
    pipe.send((result.message, peak_bytes()))


def peak_bytes() -> int:
    """The largest resident memory that this process has had.

    Not `getrusage`, whose number a child inherits from the process that started it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", nargs="?", default="desk", help="a study file or a ready-made one")
    parser.add_argument("--preset", help="smoke, cpu, paper or the study's own")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="as in craik run")
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=list(STAGES), help="which; all if left out"
    )
    parser.add_argument("--out", type=Path, help="keep the jobs' folders here")
    arguments = parser.parse_args()
    share_cores(os.environ, 2)
    study = load_study(arguments.study, arguments.preset, arguments.set).first
    with tempfile.TemporaryDirectory() as scratch:
        # compiling takes the most, so that no program may come from an earlier run's cache
        os.environ["XDG_CACHE_HOME"] = scratch
        prepare()
        rows = measure(study, arguments.out or Path(scratch), tuple(arguments.stages))
    width = max(len(row.job) for row in rows)
    print(f"{'job':{width}}  memory: estimate  measured  ratio    disk: estimate  measured  ratio")
    for row in rows:
        print(
            f"{row.job:{width}}  {size(row.memory_estimated):>16}"
            f"  {size(row.memory_measured):>8}  {row.memory_ratio:5.2f}"
            f"  {size(row.disk_estimated):>16}  {size(row.disk_measured):>8}  {row.disk_ratio:5.2f}"
        )


if __name__ == "__main__":
    main()
