"""Running a study, whole or one stage of it, on a run folder."""

import contextlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import compilation_cache
from pipeline.backends import Outcome, execute
from pipeline.carried import check_fits, outside_exploration
from pipeline.checks import needs_exploration
from pipeline.environment import default_jobs
from pipeline.errors import StudyError
from pipeline.jobs import STAGES, Exploration, Graph, Stage, build
from pipeline.progress import watcher
from pipeline.run_folder import RunFolder, version
from pipeline.settings import StudyFile
from pipeline.states import due, missing_inputs, refuse_changes, refuse_damage
from pipeline.work import STAGE_MODULES, Modules, Result, Task
from stages.settings import Study
from tasks import registry
from tasks.contract import TaskError, TaskSpec
from tasks.rendering import choose_gl

Specs = dict[str, TaskSpec]


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    outcome: Outcome
    ran: int
    finished_before: int


def run(
    study: StudyFile,
    out: Path,
    *,
    stages: Iterable[Stage] = STAGES,
    jobs: int | None = None,
    exploration: Path | None = None,
    modules: Modules = STAGE_MODULES,
    report: bool = True,
) -> Ran:
    """Do what is due of a study, then write the report.

    Args:
        study: checked settings.
        out: the run's folder; made if need be, gone on with if it holds this study.
        stages: the stages to run; the inputs of others must be there.
        jobs: processes at once; one per core (or GPU) if None.
        exploration: a `checkpoint/` or an exploration's folder from elsewhere.
        modules: the module of each stage.
        report: whether to write the report at the end.

    Raises:
        StudyError: the folder is held, holds another study, or lacks inputs.
        TaskError: a task cannot be built.
    """
    prepare()
    folder = RunFolder(out)
    specs = {name: specs_of(variant) for name, variant in study.variants.items()}
    outside = outside_exploration(exploration) if exploration else folder.outside_exploration()
    for name, variant in study.variants.items():
        check_specs(variant, specs[name], outside is not None)
        if exploration:
            check_fits(exploration, variant, specs[name])
    known = {task: spec for found in specs.values() for task, spec in found.items()}
    graph = build(
        study.variants,
        oracles=[task for task, spec in known.items() if spec.has_oracle],
        exploration=outside,
        root=out,
    )
    part = graph.only(stages)
    _refuse(study, folder, graph, part)  # before the folder is made, so that a mistake leaves none
    with folder.held():
        _refuse(study, folder, graph, part)  # for what another process has done meanwhile
        waiting = due(out, part)
        with folder.written():
            _record(folder, study, known, outside)
            folder.link_shared(part)
        for other in folder.other_versions(graph):
            print(
                f"note: jobs here were made by craik {other}, this is {version()}", file=sys.stderr
            )
        folders = [folder, *(RunFolder(out / name) for name in study.variants if name)]
        outcome = _work(folders, part, modules, jobs or default_jobs())
        if report:
            with folder.written():
                write_report(out)
    return Ran(outcome, len(waiting), len(part.jobs) - len(waiting))


def prepare() -> None:
    """Set what must be set before JAX and MuJoCo are imported, and find the user's modules."""
    compilation_cache.enable()
    choose_gl()
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that a user's `tasks` does not shadow ours


def specs_of(study: Study) -> Specs:
    """What every task of a study looks like; a user's own are tried out.

    Raises:
        TaskError: one cannot be built as asked, or fails in its first steps.
    """
    names = list(study.tasks.transfer)
    if study.explore.steps:
        names.append(study.tasks.explore)
    for name in names:
        registry.try_out(name, study.tasks)
    return {name: registry.spec(name, study.tasks) for name in names}


def check_specs(study: Study, specs: Specs, outside: bool) -> None:
    """Parts can be carried only between tasks that look and act alike.

    Raises:
        StudyError: an arm carries parts between tasks that do not, or is to be taught by what was
            recorded in a task that cannot tell what it would have paid.
    """
    for name, arm in study.transfer.arms.items():
        for task in study.tasks.transfer:
            if arm.relabelled_updates and not specs[task].can_relabel:
                raise StudyError(
                    f"transfer.arms.{name}: {task} does not tell what recorded steps would have"
                    " paid, as observed here; leave relabelled_updates out, or take another task"
                )
    source = specs.get(study.tasks.explore)
    carrying = [name for name, arm in study.transfer.arms.items() if needs_exploration(arm)]
    if source is None or outside or not carrying:
        return
    for task in study.tasks.transfer:
        target = specs[task]
        for what, here, there in (
            ("observations", source.observation, target.observation),
            ("actions", source.action, target.action),
        ):
            if here != there:
                raise StudyError(
                    f"transfer.arms.{carrying[0]}: nothing can be carried from {source.name} to"
                    f" {task}: their {what} differ: {_spaces(here)} and {_spaces(there)}"
                )


def _spaces(space: Any) -> str:
    if isinstance(space, dict):
        return ", ".join(f"{key} {list(array.shape)}" for key, array in space.items())
    return f"{space.size} {space.kind}"


def _refuse(study: StudyFile, folder: RunFolder, graph: Graph, part: Graph) -> None:
    """Refuse a folder of something else, a change of what is done, and missing inputs."""
    folder.refuse_foreign()
    out = folder.root
    refuse_damage(out, graph)
    refuse_changes(out, graph)
    missing = missing_inputs(out, part, due(out, part))
    if missing:
        stage = "explore" if "explore/" in missing[0] else "transfer"
        others = f" (nor {len(missing) - 1} others)" if len(missing) > 1 else ""
        raise StudyError(
            f"{out / missing[0]} is not finished{others}:"
            f" run `craik {stage} {study.shown} --out {out}` first, or `craik run`"
        )


def _record(folder: RunFolder, study: StudyFile, specs: Specs, outside: Exploration | None) -> None:
    folder.write_study(study)
    tasks = {name: spec.variant for name, spec in specs.items()}
    oracles = sorted(name for name, spec in specs.items() if spec.has_oracle)
    fields: dict[str, Any] = {"preset": study.preset, "oracles": oracles}
    if outside is not None:
        fields["from"] = {"path": str(outside.path), "digest": outside.digest}
    folder.write_record(study.first, tasks, **fields)
    for name in study.variants:
        if name is not None:
            RunFolder(folder.root / name).write_record(study.variants[name], tasks, **fields)
    files = {name: file for name in specs if (file := registry.source_file(name)) is not None}
    for task in folder.keep_sources(files):
        print(
            f"note: {files[task]} has changed since jobs of this run used it; what is finished"
            f" stays as it was, and {folder.root / 'tasks'} holds both",
            file=sys.stderr,
        )


def _work(folders: list[RunFolder], graph: Graph, modules: Modules, jobs: int) -> Outcome:
    folder = folders[0]
    tasks = [Task(job, folder.root, version(), modules) for job in due(folder.root, graph)]
    if not tasks:
        return Outcome()
    watching = _Recorder(watcher(folder.root, len(tasks)), folders)
    try:
        return execute(tasks, jobs, watching)
    finally:
        watching.inner.close()


class _Recorder:
    """Passes on what happens, and records the devices that the first job reports."""

    def __init__(self, inner: Any, folders: list[RunFolder]) -> None:
        self.inner, self._folders = inner, folders
        self.started, self.skipped, self.tick = inner.started, inner.skipped, inner.tick

    def finished(self, job: Any, result: Result) -> None:
        """Record devices, then pass on."""
        if result.devices and not self._folders[0].record.get("device"):
            with contextlib.suppress(OSError):  # a full disk ends no job that has room
                for folder in self._folders:
                    folder.update_record(**result.devices)
        self.inner.finished(job, result)


def write_report(out: Path) -> Path:
    """Write the report of whatever the run has so far; returns its page."""
    from stages import report

    return report.run(out)


__all__ = ["Ran", "TaskError", "check_specs", "prepare", "run", "specs_of", "write_report"]
