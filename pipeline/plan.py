"""`craik plan`: what a study will do and what it will take, before anything runs."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.jobs import STAGES, Job, Stage, build
from pipeline.run import check_specs, prepare, specs_of
from pipeline.settings import StudyFile

Estimate = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class StagePlan:
    """One stage of one variant."""

    variant: str | None
    stage: Stage
    jobs: int
    env_steps: int  # of training, all jobs together
    updates: int
    parameters: int  # of one agent
    memory_bytes: int  # of the largest job
    disk_bytes: int  # all jobs together
    seconds: float  # all jobs together, one after another


def plan(study: StudyFile, estimate: Estimate | None = None) -> list[StagePlan]:
    """The stages of a study with their totals.

    Raises:
        StudyError, TaskError: the study cannot be run.
    """
    prepare()
    if estimate is None:
        from stages import estimates

        estimate = estimates.estimate
    rows: list[StagePlan] = []
    specs = {name: specs_of(variant) for name, variant in study.variants.items()}
    for name, variant in study.variants.items():
        check_specs(variant, specs[name], outside=False)
    oracles = [t for found in specs.values() for t, spec in found.items() if spec.has_oracle]
    graph = build(study.variants, oracles=oracles)
    for name in study.variants:
        prefix = f"{name}/" if name else ""
        for stage in STAGES:
            jobs = [
                job
                for job in graph.jobs.values()
                if job.stage == stage and job.id.startswith(prefix)
            ]
            if jobs:
                rows.append(_total(name, stage, jobs, specs[name], estimate))
    return rows


def _total(
    name: str | None, stage: Stage, jobs: list[Job], specs: dict[str, Any], estimate: Estimate
) -> StagePlan:
    known: dict[tuple[Any, ...], dict[str, Any]] = {}  # equal jobs are estimated once

    def of(job: Job) -> dict[str, Any]:
        key = (job.task, job.env_steps, job.curious, job.relabelled_updates, job.planner)
        if key not in known:
            known[key] = estimate(job.study, specs[job.task], stage, *key[1:])
        return known[key]

    learning = [job for job in jobs if not job.random and job.arm not in ("random", "oracle")]
    estimates = [of(job) for job in learning]

    def total(key: str) -> Any:
        return sum(e[key] for e in estimates)

    def most(key: str) -> int:
        return int(max((e[key] for e in estimates), default=0))

    return StagePlan(
        variant=name,
        stage=stage,
        jobs=len(jobs),
        env_steps=sum(job.env_steps for job in jobs),
        updates=int(total("updates")),
        parameters=most("parameters"),
        memory_bytes=most("memory_bytes"),
        disk_bytes=int(total("disk_bytes")),
        seconds=float(total("seconds")),
    )


def as_json(study: StudyFile, rows: list[StagePlan], jobs: int) -> dict[str, Any]:
    """The plan as plain data."""
    return {
        "study": study.name,
        "preset": study.preset,
        "stages": [asdict(row) for row in rows],
        "total": {
            "jobs": sum(row.jobs for row in rows),
            "env_steps": sum(row.env_steps for row in rows),
            "updates": sum(row.updates for row in rows),
            "memory_bytes_per_job": max((row.memory_bytes for row in rows), default=0),
            "disk_bytes": sum(row.disk_bytes for row in rows),
            "seconds": sum(row.seconds for row in rows) / jobs,
            "jobs_at_once": jobs,
        },
    }


def size(number: float) -> str:
    """Bytes for a reader: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
