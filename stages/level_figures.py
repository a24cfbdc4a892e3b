"""Figures about generalisation: the levels of the training against unseen ones."""

import math
from collections.abc import Mapping, Sequence

from stages import formats
from stages.figures import MARGINS, WIDTH, Figure, Row, caption_of, rows_plot
from stages.palette import Style, styles
from stages.result_types import ArmResult, Interval, LoopResult, TaskResult
from stages.svg import Plot, extent

Point = tuple[int, ArmResult]  # a number of levels, and what was reached with them


def seen_and_unseen(
    task: str, result: TaskResult, looks: Mapping[str, Style], levels: int | None
) -> Figure | None:
    """Each arm on unseen levels and on those of its training; None where the two are the same."""
    arms = {name: arm for name, arm in result.arms.items() if arm.seen is not None}
    if not arms:
        return None
    factor, metric = formats.scale(result.metric), result.metric
    rows, said = [], []
    for name, arm in arms.items():
        for where in ("unseen", "seen"):
            value, interval, dots = _values(arm, where)
            scaled = interval and (factor * interval[0], factor * interval[1])
            tips = [f"seed {seed}" for seed, _ in dots]
            numbers = [factor * x for _, x in dots]
            label = f"{name}, {where}"
            rows.append(Row(label, looks[name], factor * (value or 0.0), scaled, numbers, tips))
            said.append(f"{label} {formats.measured(value, interval, metric)}")
    alt = f"Levels of the training against unseen ones on {task}: {'; '.join(said)}."
    last = f"trained on {formats.plural(levels, 'level')}" if levels else "dots are seeds"
    shown = rows_plot(rows, _unit(result), {})
    return Figure("Seen and unseen levels", shown.render(alt), caption_of(arms.values(), last))


def generalisation(task: str, arm: str, results: Mapping[str, LoopResult]) -> list[Figure]:
    """One arm's values over the number of levels it was trained on, a line per family of variants:
    on unseen levels, and on those of the training. Empty below two numbers of levels.

    A variant's family is its name without the number of levels at its end (`spr-100` is of `spr`).
    """
    found: dict[str, list[Point]] = {}
    for name, result in results.items():
        reached = result.tasks[task].arms.get(arm) if task in result.tasks else None
        if result.levels is not None and reached is not None and reached.seen is not None:
            family = name.removesuffix(f"-{result.levels}")
            found.setdefault(family, []).append((result.levels, reached))
    lines = {family: sorted(points, key=lambda p: p[0]) for family, points in found.items()}
    counts = sorted({levels for points in lines.values() for levels, _ in points})
    if len(counts) < 2:
        return []
    first = next(result.tasks[task] for result in results.values() if task in result.tasks)
    everything = [
        formats.scale(first.metric) * x
        for points in lines.values()
        for _, reached in points
        for where in ("unseen", "seen")
        for x in _heights(*_values(reached, where)[:2])
    ]
    looks, limits = styles(lines), extent(everything)
    return [_over_levels(task, where, lines, looks, first, limits) for where in ("unseen", "seen")]


def _over_levels(
    task: str,
    where: str,
    lines: Mapping[str, Sequence[Point]],
    looks: Mapping[str, Style],
    result: TaskResult,
    limits: tuple[float, float],
) -> Figure:
    factor = formats.scale(result.metric)
    counts = sorted({levels for points in lines.values() for levels, _ in points})
    edges = math.log10(counts[0]) - 0.1, math.log10(counts[-1]) + 0.1
    plot = Plot((WIDTH, 250), edges, limits, MARGINS)
    plot.y_axis(_unit(result), formats.compact)
    plot.x_axis("levels of the training, powers of ten", lambda x: formats.compact(10**x), 4)
    said = []
    for family, points in lines.items():
        values = [(math.log10(n), *_values(arm, where)[:2]) for n, arm in points]
        known = [
            (x, factor * value, interval) for x, value, interval in values if value is not None
        ]
        banded = [(x, factor * i[0], factor * i[1]) for x, _, i in known if i]
        colour = looks[family].colour
        plot.band([(x, a) for x, a, _ in banded], [(x, b) for x, _, b in banded], colour)
        plot.line([(x, y) for x, y, _ in known], colour)
        for (x, y, _), (levels, _) in zip(known, points, strict=False):
            tip = f"{family}, {levels} levels: {formats.number(y)}"
            plot.mark((x, y), looks[family].shape, colour, "mark", 4.2, tip)
        numbers = ", ".join(
            f"{formats.measured(*_values(arm, where)[:2], result.metric)} with {levels}"
            for levels, arm in points
        )
        said.append(f"{family} {numbers}")
    title = "Unseen levels" if where == "unseen" else "Levels of the training"
    alt = f"{title} on {task}, by how many levels were trained on: {'; '.join(said)}."
    behind = [arm for points in lines.values() for _, arm in points]
    marks = {"circle": "●", "square": "■", "triangle": "▲", "down": "▼", "diamond": "◆",
             "cross": "✚", "hexagon": "⬢"}  # fmt: skip
    legend = ", ".join(f"{marks.get(looks[name].shape, '')} {name}" for name in lines)
    return Figure(title, plot.render(alt), caption_of(behind, legend))


def _values(arm: ArmResult, where: str) -> tuple[float | None, Interval, list[tuple[int, float]]]:
    """An arm's interquartile mean, its interval, and each seed's value, seen or unseen."""
    if where == "unseen":
        dots = [(row.seed, row.final) for row in arm.seeds if row.final is not None]
        return arm.iqm, arm.interval, dots
    assert arm.seen is not None, "asked of arms that have it"
    return arm.seen.iqm, arm.seen.interval, list(arm.seen.by_seed.items())


def _heights(value: float | None, interval: Interval) -> list[float]:
    return [x for x in (value, *(interval or ())) if x is not None]


def _unit(result: TaskResult) -> str:
    shown = formats.sign(result.metric)
    return formats.UNITS[result.metric] + (f", {shown}" if shown else "")
