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
import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        """Refuse a folder with files of its own where a run would write.

        Raises:
            StudyError: naming the first of them.
        """
        if any((self.root / name).exists() for name in (".lock", "run.json")):
            return
        for name in ("study.toml", *RUN_FOLDERS):
            if (self.root / name).exists():
                raise StudyError(
                    f"--out {self.root}: there is a {name} that no run wrote;"
                    " take another folder, so that it is not overwritten"
                )

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
                lock.write(f"pid {os.getpid()} on {platform.node()}")
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
        record = read_json(path)
        if record is None and path.exists():
            raise StudyError(
                f"{path}: damaged; remove it to go on, and give --from again if this run had one"
            )
        return record or {}

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
        rows = toml.read(self.root / "study.toml").get("variants", [])
        if not rows:
            return {None: load_study(self.root / "study.toml", exploration=False).first}
        return {
            row["name"]: load_study(self.root / row["name"], exploration=False).first
            for row in rows
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

    def copy_task_file(self, file: Path) -> None:
        """Keep a user's task file as it was, beside the results it gave."""
        durable.write(self.root / "tasks" / file.name, file.read_bytes())

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
