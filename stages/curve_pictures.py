"""The fine-tuning curves of a study as a picture of its own, for a paper or a README."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import assets
from stages import figures, formats
from stages.palette import Style
from stages.result_types import ArmResult, LoopResult, TaskResult
from stages.svg import Plot, standalone

COLUMNS = 2
PANEL = (372, 276)  # px: a task's plot under its name
HEAD, FOOT = 30, 26  # px: the arms' marks above, what stands behind it below
CHARACTER = 7.2  # px, about the width of one in the legend


def curves(results: LoopResult, styles: Mapping[str, Style]) -> str | None:
    """One panel per task, two in a row, as an SVG file; None before the first evaluation."""
    tasks = {task: found for task, found in results.tasks.items() if figures.with_curves(found)}
    if not tasks:
        return None
    columns, rows = min(COLUMNS, len(tasks)), -(-len(tasks) // COLUMNS)
    size = (columns * PANEL[0], HEAD + rows * PANEL[1] + FOOT)
    page = Plot(size, (0, 1), (0, 1))
    arms = {
        name: arm for found in tasks.values() for name, arm in figures.with_curves(found).items()
    }
    _legend(page, list(arms), styles)
    for index, (task, found) in enumerate(tasks.items()):
        _panel(page, task, found, styles, (index % COLUMNS, index // COLUMNS))
    page.text(8, size[1] - 9, _behind(list(tasks.values())), "label")
    said = " ".join(figures.curves_said(task, found) for task, found in tasks.items())
    style = (Path(assets.__file__).parent / "report" / "plot.css").read_text(encoding="utf-8")
    return standalone(page, said, style)


def _legend(page: Plot, arms: Sequence[str], styles: Mapping[str, Style]) -> None:
    at = 14.0
    for name in arms:
        page.mark_px(at, 17, styles[name].shape, styles[name].colour, "mark", 5)
        page.text(at + 10, 21, name, "value")
        at += 34 + CHARACTER * len(name)


def _panel(
    page: Plot, task: str, found: TaskResult, styles: Mapping[str, Style], place: tuple[int, int]
) -> None:
    left, above = place[0] * PANEL[0], HEAD + place[1] * PANEL[1]
    right, below = page.size[0] - left - PANEL[0], page.size[1] - above - PANEL[1]
    margins = (left + 42, right + 14, above + 44, below + 40)
    page.text(left + 8, above + 16, task, "row")
    figures.curve_plot(found, styles, page.size, margins, page.parts)


def _behind(tasks: Sequence[TaskResult]) -> str:
    arms: list[ArmResult] = [arm for task in tasks for arm in figures.with_curves(task).values()]
    seeds = max(len(arm.seeds) for arm in arms)
    if seeds == 1:
        return "one seed, so no bands"
    return f"interquartile means and 95 % bands of {formats.plural(seeds, 'seed')}"
