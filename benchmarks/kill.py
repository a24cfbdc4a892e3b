"""Does a study that is killed again and again end as an undisturbed one does, bit for bit?

    .venv/bin/python benchmarks/kill.py                  twenty kills of the desk study in small
    .venv/bin/python benchmarks/kill.py --kills 5 --seed 1 --jobs 1
    .venv/bin/python benchmarks/kill.py --study transfer-muzero --set seeds=1

The study runs once undisturbed. Then it runs again, `kill -9` ends its whole process group at a
moment drawn at random, the same command is typed again, and so on: while it starts, explores,
fine-tunes, writes a checkpoint, evaluates, or writes the report. In the end results.json, the
digests of all components of every checkpoint, all metrics but times, and all evaluated episodes
must equal those of the undisturbed run. Exit code 1 if anything differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stages import checkpoints

ROOT = Path(__file__).parent.parent
SETTINGS = ("training.checkpoint_minutes=0.02", "evaluate.curve_points=4")
LOOK = 0.01  # s between looks at the run's folder
STARTING = 8.0  # s within which a kill of the kind `start` falls
PATIENCE = 3.0  # s to wait for a checkpoint to be under way; evaluations have none

Weights = dict[Path, float]  # by the job's folder, relative to the run's


@dataclass
class Kill:
    """One kill: what it waits for, and what it met."""

    kind: str  # start | progress | checkpoint | report
    target: float = 0.0  # share of the study's work that is done
    delay: float = 0.0  # s after what it waits for
    seconds: float = 0.0  # after the command's start
    met: str = ""


@dataclass(frozen=True)
class Study:
    """How the study is run."""

    name: str
    jobs: int
    preset: str
    overrides: tuple[str, ...]

    def start(self, out: Path, log: Path) -> subprocess.Popen[bytes]:
        """Start the command in a process group of its own."""
        words = ["run", self.name, "--preset", self.preset, "--out", str(out)]
        words += ["--jobs", str(self.jobs)]
        words += [word for s in (*SETTINGS, *self.overrides) for word in ("--set", s)]
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli", *words],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def run(self, out: Path, log: Path) -> float:
        """Run to the end; seconds it took."""
        started = time.monotonic()
        code = self.start(out, log).wait()
        if code:
            raise SystemExit(f"the study ended with exit code {code}: {log}")
        return time.monotonic() - started


def plan(number: int, rng: random.Random) -> list[Kill]:
    """Kills over the whole of a study, in order: a tenth in the report, a seventh at the start."""
    reports = max(1, number // 10)
    starts = max(1, number // 7) if number > 2 else 0
    rest = number - reports - starts
    targets = [(i + rng.random()) / rest for i in range(rest)]
    kills = [
        Kill(rng.choice(("progress", "checkpoint")), target, rng.uniform(0, 1))
        for target in targets
    ]
    for _ in range(starts):
        kills.insert(rng.randint(0, len(kills)), Kill("start", delay=rng.uniform(0, STARTING)))
    return kills + [Kill("report", delay=rng.uniform(0, 0.5)) for _ in range(reports)]


def weights(out: Path) -> Weights:
    """What share of a finished study's work each job was."""
    seconds = {f: json.loads((f / "done.json").read_text())["seconds"] for f in folders(out)}
    return {f.relative_to(out): s / sum(seconds.values()) for f, s in seconds.items()}


def done(out: Path, parts: Weights) -> float:
    """Share of the study's work that is done, jobs under way counted by their own word."""
    return sum(
        parts[folder.relative_to(out)]
        * (1.0 if (folder / "done.json").exists() else _share(folder))
        for folder in folders(out)
    )


def folders(out: Path) -> list[Path]:
    """The folders of all jobs that have begun."""
    while True:
        try:
            return sorted(path.parent for path in out.rglob("job.json"))
        except FileNotFoundError:  # a folder took its final name meanwhile
            continue


def _share(folder: Path) -> float:
    try:
        said = json.loads((folder / "progress.json").read_text())
        return min(1.0, said["done"] / said["total"])
    except (OSError, ValueError):
        return 0.0


def writing(out: Path, since: float) -> bool:
    """Whether a checkpoint is being written that was begun after `since`."""
    places = [folder / name for folder in folders(out) for name in ("checkpoint", "start")]
    found = [p / name for p in places if p.is_dir() for name in os.listdir(p)]
    return any(path.suffix == ".partial" and _changed(path) > since for path in found)


def working(out: Path, since: float) -> bool:
    """Whether a job has got on since then."""
    return any(_changed(folder / "progress.json") > since for folder in folders(out))


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def await_moment(kill: Kill, process: subprocess.Popen[bytes], out: Path, parts: Weights) -> None:
    """Wait until the kill is due, or the command has ended."""
    since = time.time()

    def until(condition: Any, seconds: float = float("inf")) -> None:
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline and not condition():
            time.sleep(LOOK)

    match kill.kind:
        case "progress" | "checkpoint":
            until(lambda: done(out, parts) >= kill.target and working(out, since))
        case "report":
            until((out / "report.partial").exists)
    if kill.kind == "checkpoint":
        until(lambda: writing(out, since), PATIENCE)
        kill.delay *= 0.2  # of the time that writing takes
    until(lambda: False, kill.delay)


def met(out: Path, since: float) -> str:
    """What was begun and not done, and what was being written by the command begun at `since`."""
    begun = [folder for folder in folders(out) if not (folder / "done.json").exists()]
    found = ["/".join(folder.relative_to(out).parts) for folder in begun]
    if writing(out, since):
        found.append("a checkpoint half written")
    if (out / "report.partial").exists():
        found.append("the report half written")
    return ", ".join(found) or "no job"


def strike(study: Study, kill: Kill, out: Path, log: Path, parts: Weights) -> None:
    """Start the command and kill all of it at the moment."""
    started, since = time.monotonic(), time.time()
    process = study.start(out, log)
    await_moment(kill, process, out, parts)
    kill.seconds = time.monotonic() - started
    if (code := process.poll()) is not None:
        if code:
            raise SystemExit(f"the study ended with exit code {code}: {log}")
        kill.met = "nothing: it was done before"
        return
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kill.met = met(out, since)


def figures(out: Path) -> Iterator[tuple[str, Any]]:
    """What must be equal: a name and a value that compares."""
    yield "results.json", (out / "report" / "results.json").read_bytes()
    for folder in sorted(p for n in ("checkpoint", "start") for p in out.rglob(n) if p.is_dir()):
        name = str(folder.relative_to(out))
        yield from (
            (f"{name}: {part}", row["digest"])
            for part, row in checkpoints.components(folder).items()
        )
    for path in sorted(out.rglob("episodes.jsonl")):
        yield str(path.relative_to(out)), path.read_bytes()
    for path in sorted(out.rglob("metrics.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        yield str(path.relative_to(out)), [row for row in rows if row["kind"] != "time"]


def main() -> None:
    """Run, kill, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", default="desk", help="a study file or a ready-made one (desk)")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--kills", type=int, default=20, help="how many (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--jobs", type=int, default=2, help="jobs at once (2)")
    parser.add_argument("--preset", default="smoke", help="sizes of the study (smoke)")
    parser.add_argument("--out", type=Path, help="folder for both runs, kept; else a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.out or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        sys.exit(0 if measure(arguments, root) else 1)


def measure(arguments: argparse.Namespace, root: Path) -> bool:
    """Both runs under `root`, and tables of what was met and what came of it."""
    overrides = tuple(arguments.overrides)
    study = Study(arguments.study, arguments.jobs, arguments.preset, overrides)
    console = Console()
    one, other, log = root / "undisturbed", root / "killed", root / "log.txt"
    kills = plan(arguments.kills, random.Random(arguments.seed))
    with Progress(console=console) as progress:
        bar = progress.add_task("the undisturbed run", total=len(kills) + 2)
        undisturbed = study.run(one, log)
        parts = weights(one)
        started = time.monotonic()
        for number, kill in enumerate(kills, start=1):
            progress.update(bar, advance=1, description=f"kill {number} of {len(kills)}")
            strike(study, kill, other, log, parts)
        progress.update(bar, advance=1, description="on to the end")
        study.run(other, log)
        killed = time.monotonic() - started
        progress.update(bar, advance=1, description="done")
    table = Table("kill", "awaited", "after", "met", box=None, header_style="bold")
    for number, kill in enumerate(kills, start=1):
        awaited = f"{kill.target:.0%}, {kill.kind}" if kill.target else kill.kind
        table.add_row(str(number), awaited, f"{kill.seconds:.1f} s", kill.met)
    console.print(table)
    wanted, found = dict(figures(one)), dict(figures(other))
    differing = [name for name in wanted | found if wanted.get(name) != found.get(name)]
    for name in differing:
        console.print(f"differs: {name}", markup=False)
    landed = sum(not kill.met.startswith("nothing") for kill in kills)
    console.print(
        f"{landed} kills in {killed:.0f} s (undisturbed: {undisturbed:.0f} s); "
        f"{len(wanted)} figures compared, {len(differing)} differ"
    )
    return not differing


if __name__ == "__main__":
    main()
