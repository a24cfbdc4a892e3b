"""A run's folder: who holds it, what it records, and the links inside it.

    DIR/study.toml        resolved settings; with variants also DIR/VARIANT/study.toml
    DIR/run.json          versions, devices, precision, GL, tasks' variants
    DIR/tasks/            copies of the user's task files, as they were
    DIR/explore|transfer|evaluate/...   job folders, see `pipeline.jobs`
    DIR/report/

Nothing in it is an absolute path that reading needs, so that the folder may be moved.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from pipeline import toml
from pipeline.checks import RUN_FOLDERS
from pipeline.errors import StudyError
from pipeline.jobs import Exploration, Graph
from pipeline.settings import StudyFile, load_study, resolved
from pipeline.states import read_json, state, write_json
from stages import durable
from stages.settings import Study

_PACKAGES = (
    "craik",
    "jax",
    "jaxlib",
    "equinox",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "mujoco",
    "dm-control",
    "metaworld",
    "robodesk",
    "crafter",
    "gymnasium",
    "envpool",
)
_OWNER = "pid "  # how `.lock` begins


class _Record(BaseModel):
    """What is read again of `run.json`; the rest of it is for people and the report."""

    class From(BaseModel):
        path: str
        digest: str

    craik: str
    versions: dict[str, str] = {}
    oracles: list[str] = []
    sources: dict[str, str] = {}
    outside: From | None = Field(default=None, alias="from")


def version() -> str:
    """The version of this code; `dev` where it is not installed."""
    return versions().get("craik", "dev")


def versions() -> dict[str, str]:
    """Versions of what results depend on, of those that are installed."""
    found: dict[str, str] = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    root: Path

    def refuse_foreign(self) -> None:
        """Refuse a folder with files of its own where a run would write, and one inside a run.

        Raises:
            StudyError: naming the first of them, or the run.
        """
        for parent in self.root.resolve().parents:
            if (parent / "study.toml").exists() and RunFolder(parent).is_run():
                raise StudyError(
                    f"--out {self.root}: lies in {parent}, which holds a run and writes its folders"
                    " anew; take a folder outside of it"
                )
        if self.is_run():
            return
        for name in ("study.toml", *RUN_FOLDERS):
            if (self.root / name).exists():
                raise StudyError(
                    f"--out {self.root}: there is a {name} that no run wrote;"
                    " take another folder, so that it is not overwritten"
                )

    def is_run(self) -> bool:
        """Whether a run was begun here, as its own files say. A `run.json` that cannot be read
        counts as a run's (see `record`)."""
        path = self.root / "run.json"
        if path.exists():
            record = read_json(path)
            return record is None or "craik" in record
        try:
            return (self.root / ".lock").read_text(encoding="utf-8").startswith(_OWNER)
        except (OSError, ValueError):
            return False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder; a second process on it is refused.

        Raises:
            StudyError: another process holds it, or it cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("a+")
        except OSError as error:
            raise StudyError(f"--out {self.root}: {error.strerror}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                owner = lock.read().strip() or "unknown"
                raise StudyError(
                    f"--out {self.root}: another craik process ({owner}) works in it;"
                    " wait for it, stop it, or take another folder"
                ) from None
            with self.written():
                lock.truncate(0)
                lock.write(f"{_OWNER}{os.getpid()} on {platform.node()}")
                lock.flush()
            yield

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """Something is written to the folder in this context.

        Raises:
            StudyError: it cannot be, for want of room perhaps.
        """
        try:
            yield
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise StudyError(
                f"--out {self.root}: {error.strerror}{where}; nothing that was finished or"
                " checkpointed is lost, and the same command goes on once that is mended"
            ) from None

    def is_held(self) -> bool:
        """Whether a process works in the folder now."""
        try:
            with (self.root / ".lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def record(self) -> dict[str, Any]:
        """`run.json`, empty before the first run.

        Raises:
            StudyError: it is damaged: going on would forget what it says, `--from` for one.
        """
        path = self.root / "run.json"
        if not path.exists():
            return {}
        record = read_json(path)
        if record is not None and "craik" not in record:
            raise StudyError(f"{path}: no run wrote this; take another folder")
        try:
            _Record.model_validate(record, strict=True)
        except ValidationError:
            raise StudyError(
                f"{path}: damaged; remove it to go on, and give --from again if this run had one"
            ) from None
        assert record is not None
        return record

    def update_record(self, **fields: Any) -> None:
        """Add to `run.json`."""
        write_json(self.root / "run.json", self.record | fields)

    def write_study(self, study: StudyFile) -> None:
        """Write the resolved settings of the study and of each variant."""
        table = resolved(study.first)
        if study.changes:
            table = resolved(study.base) | {
                "variants": [{"name": name, "set": set} for name, set in study.changes.items()]
            }
        durable.write(self.root / "study.toml", toml.dumps(table))
        for name, variant in study.variants.items():
            if name is not None:
                durable.write(self.root / name / "study.toml", toml.dumps(resolved(variant)))

    def read_studies(self) -> dict[str | None, Study]:
        """The study of each variant, as it was resolved.

        Raises:
            StudyError: the folder holds no run.
        """
        if not (self.root / "study.toml").is_file():
            raise StudyError(f"{self.root}: no run here (no study.toml)")
        study = load_study(self.root / "study.toml", exploration=False)
        if not study.changes:
            return {None: study.first}
        return {
            name: load_study(self.root / name / "study.toml", exploration=False).first
            for name in study.changes
        }

    def write_record(self, study: Study, tasks: dict[str, Any], **fields: Any) -> None:
        """Write `run.json` at the start of a run; the first start stays."""
        record = self.record
        self.update_record(
            craik=version(),
            versions=versions(),
            precision=study.training.precision,
            matmul_precision=os.environ.get("JAX_DEFAULT_MATMUL_PRECISION", "default"),
            python=platform.python_version(),
            platform=platform.platform(),
            gl=os.environ.get("MUJOCO_GL"),
            render=study.tasks.render,
            started=record.get("started", time.time()),
            resumed=time.time(),
            device=record.get("device"),
            devices=record.get("devices"),
            variants_of_tasks=tasks,
            **fields,
        )

    def keep_sources(self, files: dict[str, Path]) -> list[str]:
        """Keep the user's task files, by the names of their tasks, beside the results they gave.

        A copy is never overwritten: a file of another content gets its digest into its name.

        Returns:
            The tasks whose file is another than when the run was here last.
        """
        known = self.record.get("sources", {})
        sources: dict[str, str] = {}
        for task, file in files.items():
            content = file.read_bytes()
            sources[task] = hashlib.sha256(content).hexdigest()[:12]
            copy = self.root / "tasks" / file.name
            if copy.exists() and copy.read_bytes() != content:
                copy = copy.with_stem(f"{file.stem}-{sources[task]}")
            if not copy.exists():
                durable.write(copy, content)
        self.update_record(sources=known | sources)
        return [task for task in sources if known.get(task, sources[task]) != sources[task]]

    def link_shared(self, graph: Graph) -> None:
        """Make each shared exploration visible in every variant that uses it.

        Raises:
            StudyError: a folder of its own stands where the link should be.
        """
        for link, target in graph.links.items():
            path = self.root / link
            goal = os.path.relpath(self.root / target, path.parent)
            if path.is_symlink() and os.readlink(path) == goal:
                continue
            if path.is_symlink():
                path.unlink()
            elif path.exists():
                continue  # an exploration of its own, from when the variants differed
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(goal, target_is_directory=True)

    def outside_exploration(self) -> Exploration | None:
        """What an earlier `transfer --from` recorded."""
        known = self.record.get("from")
        return Exploration(Path(known["path"]), known["digest"]) if known else None

    def other_versions(self, graph: Graph) -> list[str]:
        """Versions of the code, other than this, that made finished jobs of this run."""
        made = {
            str((read_json(self.root / id / "done.json") or {}).get("version"))
            for id in graph.jobs
            if state(self.root / id) == "finished"
        }
        return sorted(made - {version()})
