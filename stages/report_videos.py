"""The films of a report: which seed stands for an arm, copied beside the page."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from stages import formats
from stages.records import REFERENCES, Evaluation, Loop
from stages.result_types import TaskResult

FILMS = {
    "explore": "exploring",
    "open_loop": "truth, open-loop prediction, difference",
}


@dataclass(frozen=True)
class Film:
    """One place in the grid: a film, or the line that says why there is none."""

    arm: str
    path: str | None  # relative to the page
    line: str
    caption: str
    alt: str


def of_task(loop: Loop, task: str, result: TaskResult, report: Path) -> list[Film]:
    """A film of every arm and reference on a task, arms in the study's order."""
    arms = [name for name in loop.arms if loop.evaluations_of(task, name)]
    references = [name for name in REFERENCES if loop.evaluations_of(task, name)]
    return [_film(loop, task, name, result, report) for name in (*arms, *references)]


def of_exploration(loop: Loop, report: Path) -> list[Film]:
    """The first seed's films of exploring without rewards."""
    for table in loop.explorations:
        folder = table.job.folder / "videos"
        paths = sorted(folder.glob("*.mp4"))
        lines = [*folder.glob("MISSING.txt"), *sorted(folder.glob("*.missing.txt"))]
        line = next((text for path in lines if (text := first_line(path))), "")
        if paths or line:
            caption = f"seed {table.job.seed}, {formats.steps(table.env_steps)} env steps"
            if not paths:
                return [Film("exploring", None, line, caption, "")]
            return [
                Film(
                    arm=(name := FILMS.get(path.stem, path.stem.replace("_", " "))),
                    path=_copy(loop, path, ("explore", path.stem), report),
                    line="",
                    caption=caption,
                    alt=f"Film from exploration without rewards: {name}, {caption}.",
                )
                for path in paths
            ]
    return []


def first_line(path: Path) -> str:
    """The first line of a text file; "" without the file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return lines[0].strip() if lines else ""


def _film(loop: Loop, task: str, arm: str, result: TaskResult, report: Path) -> Film:
    jobs = loop.evaluations_of(task, arm)
    centre = result.arms[arm].iqm if arm in result.arms else None
    finals = {row.seed: row.final for row in result.arms[arm].seeds} if centre is not None else {}

    def order(job: Evaluation) -> tuple[bool, float]:
        final = finals.get(job.job.seed)
        far = abs(final - centre) if final is not None and centre is not None else 0.0
        return not (job.job.folder / "video.mp4").is_file(), far

    chosen = min(jobs, key=order)
    path = chosen.job.folder / "video.mp4"
    final = finals.get(chosen.job.seed)
    if final is None:
        value = result.references.get(arm) if arm in REFERENCES else None  # type: ignore[call-overload]
        said = "reference" if value is None else formats.measured(value, None, result.metric)
    else:
        said = f"seed {chosen.job.seed}, {formats.measured(final, None, result.metric)}"
    unit = formats.UNITS[result.metric]
    alt = f"Film of {arm} on {task}: {said} ({unit})."
    name = None
    if path.is_file():
        name = _copy(loop, path, (task, arm, f"seed-{chosen.job.seed}"), report)
    line = first_line(path.with_name("video.missing.txt")) or "no film was made of this run yet"
    return Film(arm, name, line, said, alt)


def _copy(loop: Loop, path: Path, parts: tuple[str, ...], report: Path) -> str:
    words = [loop.variant, *parts] if loop.variant else parts
    name = "--".join(re.sub(r"[^A-Za-z0-9._-]+", "-", str(word)).strip("-") for word in words)
    (report / "videos").mkdir(exist_ok=True)
    shutil.copyfile(path, report / "videos" / f"{name}.mp4")
    return f"videos/{name}.mp4"
