"""Reads what a run left behind into typed tables: the job folders of `DIR`, or of its variants.

Nothing here assumes that a run is complete. A job folder that stops half-way gives what it has; a
line cut off by a killed process is passed over.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from policies import planner_names
from stages.settings import Arm
from tasks.contract import TaskError

Row = dict[str, Any]

REFERENCES = ("random", "oracle")
SEEN = "final-seen"  # the final agent on the levels it was trained on, where `tasks.levels` is set
PLANNED = "final-planned"  # the final agent with a planner beside its main one
PLANNED_SEEN = "final-planned-seen"  # likewise on the levels it was trained on


@dataclass(frozen=True)
class Job:
    """One job folder: who it was, and whether it finished."""

    stage: str
    task: str
    arm: str
    seed: int
    folder: Path
    finished: bool
    error: str | None  # the last line of what a failed job left


@dataclass(frozen=True)
class Training:
    """An exploration or a fine-tuning: the rows of its metrics by kind, in file order."""

    job: Job
    episodes: tuple[Row, ...]
    evaluations: tuple[Row, ...]
    health: tuple[Row, ...]
    time: Row | None

    @property
    def env_steps(self) -> int | None:
        """Env steps taken so far; None if no row tells."""
        return _largest("env_steps", self.episodes, self.evaluations, self.health)

    @property
    def updates(self) -> int | None:
        """Gradient updates so far; None if no row tells."""
        return _largest("updates", self.episodes, self.evaluations, self.health)


@dataclass(frozen=True)
class Evaluation:
    """The episodes of one evaluate job; `checkpoint` tells zero-shot from final."""

    job: Job
    episodes: tuple[Row, ...]

    def at(self, checkpoint: str) -> tuple[Row, ...]:
        """The episodes of `start`, `final`, `final-seen`, `final-planned`, `final-planned-seen`,
        `random` or `oracle`."""
        return tuple(row for row in self.episodes if row.get("checkpoint") == checkpoint)


@dataclass(frozen=True)
class Loop:
    """Explore, transfer and evaluate under one set of settings: a study, or one of its variants."""

    variant: str | None
    root: Path
    study: Row
    run: Row
    planned: tuple[str, ...]
    explorations: tuple[Training, ...]
    random_exploration: Training | None
    transfers: tuple[Training, ...]
    evaluations: tuple[Evaluation, ...]
    replanned: tuple[Evaluation, ...]  # of the same agents, with other planners

    @property
    def name(self) -> str:
        return str(self.study.get("name") or self.root.name)

    @property
    def arms(self) -> dict[str, Arm]:
        """The arms in the study's order, then those only found on disk."""
        table = self.study.get("transfer", {}).get("arms", {})
        found = [job.arm for job in self.jobs if job.arm not in REFERENCES]
        names = [*table, *found]
        return {name: _arm(table.get(name)) for name in dict.fromkeys(names)}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The transfer tasks as written: those planned, then those only found on disk."""
        return tuple(dict.fromkeys([*self.planned, *(job.task for job in self.jobs)]))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds the study plans."""
        seeds = self.study.get("seeds", 0)
        return tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Fine-tunings and evaluations."""
        tables = (*self.transfers, *self.evaluations, *self.replanned)
        return tuple(table.job for table in tables)

    def transfers_of(self, task: str, arm: str) -> list[Training]:
        return [t for t in self.transfers if (t.job.task, t.job.arm) == (task, arm)]

    def evaluations_of(self, task: str, arm: str) -> list[Evaluation]:
        return [e for e in self.evaluations if (e.job.task, e.job.arm) == (task, arm)]

    def replanned_of(self, task: str, arm: str) -> list[Evaluation]:
        return [e for e in self.replanned if (e.job.task, e.job.arm) == (task, arm)]

    def planners_of(self, arm: str) -> tuple[str, ...]:
        """Who plans at an arm's evaluations by the study: first at the main one, then beside it."""
        main = self.arms[arm].evaluate or self.study.get("planning", {}).get("evaluate", "none")
        listed = self.study.get("evaluate", {}).get("planners", ())
        return tuple(dict.fromkeys([str(main), *map(str, listed)]))

    def planner_of(self, name: str) -> tuple[str, int | None, str | None]:
        """A planner's kind, its size by name or study (0 of none, None where unknown), and the
        model that it plans in where that is not the agent's."""
        try:
            kind, size, model = planner_names.parse(name)
        except ValueError:  # of a run from elsewhere
            return name, None, None
        planning = self.study.get("planning", {})
        known = {"none": 0, "mcts": planning.get("search", {}).get("simulations")}
        found = size or known.get(kind, planning.get("samples"))
        return kind, found if isinstance(found, int) else None, model


def read(root: Path) -> list[Loop]:
    """Read a run folder: one loop, or one per variant where `root` holds variants.

    Raises:
        TaskError: `root` is no run folder.
    """
    top = read_toml(root / "study.toml")
    if any((root / stage).is_dir() for stage in ("explore", "transfer", "evaluate")):
        return [read_loop(root, None)]
    listed = [str(variant.get("name")) for variant in top.get("variants", [])]
    folders = {path.parent.name: path.parent for path in sorted(root.glob("*/study.toml"))}
    names = [name for name in listed if name in folders] if listed else list(folders)
    if names:
        return [read_loop(folders[name], name) for name in names]
    if top:
        return [read_loop(root, None)]
    raise TaskError(f"{root}: no run here; expected the folder that `craik run --out` wrote")


def read_loop(root: Path, variant: str | None) -> Loop:
    """Read one tree of job folders."""
    study = read_toml(root / "study.toml")
    planned = planned_tasks(study)
    names = {re.sub(r"[^A-Za-z0-9._-]", "-", task): task for task in planned}
    explorations = [
        _training(_job(path, "explore", str(study.get("tasks", {}).get("explore", "")), ""))
        for path in _by_seed(root.glob("explore/seed-*"))
    ]
    random = root / "explore" / "random"
    return Loop(
        variant=variant,
        root=root,
        study=study,
        run=read_json(root / "run.json")
        or (read_json(root.parent / "run.json") if variant else {}),
        planned=planned,
        explorations=tuple(explorations),
        random_exploration=_training(_job(random, "explore", "", "random"))
        if random.is_dir()
        else None,
        transfers=tuple(
            _training(_job(path, "transfer", _task(path.parents[1], names), path.parent.name))
            for path in _by_seed(root.glob("transfer/*/*/seed-*"))
        ),
        evaluations=tuple(
            Evaluation(job, tuple(json_lines(job.folder / "episodes.jsonl")))
            for job in _evaluate_jobs(root, names)
        ),
        replanned=tuple(
            Evaluation(job, tuple(json_lines(job.folder / "episodes.jsonl")))
            for job in _replanned_jobs(root, names)
        ),
    )


def planned_tasks(study: Row) -> tuple[str, ...]:
    """The transfer tasks a study names, splits written out where the registry knows them."""
    from tasks.registry import expand

    table = study.get("tasks", {})
    try:
        return expand(table.get("transfer", ()))[: table.get("transfer_limit")]
    except TaskError:  # a run from elsewhere may name tasks that this machine does not have
        return ()


def read_json(path: Path) -> Row:
    """A JSON object, or {} where the file is missing or cut off."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_toml(path: Path) -> Row:
    """A TOML table, or {} where the file is missing or broken."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a ValueError where it is not TOML, or not even text
        return {}


def json_lines(path: Path) -> Iterator[Row]:
    """The objects of a JSON-lines file; none if it is missing."""
    if not path.is_file():
        return
    with path.open("rb") as file:  # a damaged line may not even be text
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def last_line(path: Path) -> str | None:
    """The last line of a text that is not empty; None without one."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = text.split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), None)


def _training(job: Job) -> Training:
    kinds: dict[str, list[Row]] = {"episode": [], "evaluation": [], "health": [], "time": []}
    for row in json_lines(job.folder / "metrics.jsonl"):
        kind, steps = str(row.get("kind")), row.get("env_steps")
        if kind in kinds and isinstance(steps, int | float):  # else the line was damaged
            kinds[kind].append(row)
    time = kinds["time"][-1] if kinds["time"] else None
    return Training(
        job=job,
        episodes=tuple(kinds["episode"]),
        evaluations=tuple(kinds["evaluation"]),
        health=tuple(kinds["health"]),
        time=time,
    )


def _job(folder: Path, stage: str, task: str, arm: str) -> Job:
    """What `job.json` says of a folder, or else what its place says."""
    said = read_json(folder / "job.json")
    place = folder.name.removeprefix("seed-")
    seed = said.get("seed", place)
    return Job(
        stage=stage,
        task=str(said.get("task") or task),
        arm=str(said.get("arm") or arm),
        seed=int(seed) if str(seed).lstrip("-").isdigit() else 0,
        folder=folder,
        finished=bool(read_json(folder / "done.json")),
        error=last_line(folder / "error.txt"),
    )


def _evaluate_jobs(root: Path, names: dict[str, str]) -> Iterator[Job]:
    for path in _by_seed(root.glob("evaluate/*/*/seed-*")):
        yield _job(path, "evaluate", _task(path.parents[1], names), path.parent.name)
    for reference in REFERENCES:
        for path in sorted(root.glob(f"evaluate/*/{reference}")):
            if (path / "episodes.jsonl").is_file() or (path / "job.json").is_file():
                yield _job(path, "evaluate", _task(path.parent, names), reference)


def _replanned_jobs(root: Path, names: dict[str, str]) -> Iterator[Job]:
    """Evaluations within the folder of their main one, each named by its planner."""
    for path in _by_seed(root.glob("evaluate/*/*/seed-*")):
        main = _job(path, "evaluate", _task(path.parents[1], names), path.parent.name)
        for inner in sorted(path.iterdir()):
            if (inner / "episodes.jsonl").is_file() or (inner / "job.json").is_file():
                finished = bool(read_json(inner / "done.json"))
                error = last_line(inner / "error.txt")
                yield replace(main, folder=inner, finished=finished, error=error)


def _task(folder: Path, names: dict[str, str]) -> str:
    return names.get(folder.name, folder.name)


def _by_seed(paths: Iterator[Path]) -> list[Path]:
    def order(path: Path) -> tuple[Path, int, str]:
        number = path.name.removeprefix("seed-")
        return path.parent, int(number) if number.isdigit() else -1, path.name

    return sorted((path for path in paths if path.is_dir()), key=order)


def _arm(table: Any) -> Arm:
    try:
        return Arm.model_validate({"carry": table} if isinstance(table, list) else table or {})
    except ValidationError:  # a study of another version: its numbers can still be shown
        return Arm.model_validate({})


def _largest(key: str, *tables: tuple[Row, ...]) -> int | None:
    found = [row[key] for rows in tables for row in rows if row.get(key) is not None]
    return int(max(found)) if found else None
