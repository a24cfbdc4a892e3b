"""Figures about generalisation: the levels of the training against unseen ones."""

import math
from collections.abc import Mapping

from stages import formats, line_figures
from stages.figures import Figure, Row, caption_of, rows_plot
from stages.line_figures import Axis, Lines, Point
from stages.palette import Style
from stages.result_types import ArmResult, Interval, LoopResult, TaskResult

AXIS = Axis("levels", "levels of the training", math.log10)


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
    shown = rows_plot(rows, formats.unit(metric), {})
    return Figure("Seen and unseen levels", shown.render(alt), caption_of(arms.values(), last))


def generalisation(task: str, arm: str, results: Mapping[str, LoopResult]) -> list[Figure]:
    """One arm's values over the number of levels it was trained on, a line per family of variants:
    on unseen levels, and on those of the training. Empty below two numbers of levels.

    A variant's family is its name without the number of levels at its end (`spr-100` is of `spr`).
    """
    found: dict[str, dict[int, ArmResult]] = {}
    for name, result in results.items():
        reached = result.tasks[task].arms.get(arm) if task in result.tasks else None
        if result.levels is not None and reached is not None and reached.seen is not None:
            family = name.removesuffix(f"-{result.levels}")
            found.setdefault(family, {})[result.levels] = reached
    if len({levels for arms in found.values() for levels in arms}) < 2:
        return []
    metric = next(result.tasks[task] for result in results.values() if task in result.tasks).metric
    behind = [reached for arms in found.values() for reached in arms.values()]
    drawn = {where: _lines(found, where) for where in ("unseen", "seen")}
    limits = line_figures.limits_of(drawn.values(), metric)
    titles = {"unseen": "Unseen levels", "seen": "Levels of the training"}
    return [
        line_figures.over(
            titles[where],
            f"{titles[where]} on {task}, by how many levels were trained on",
            lines,
            AXIS,
            metric,
            limits,
            behind,
        )
        for where, lines in drawn.items()
    ]


def _lines(found: Mapping[str, Mapping[int, ArmResult]], where: str) -> Lines:
    return {
        family: [
            Point(levels, value, interval)
            for levels, arm in sorted(arms.items())
            for value, interval, _ in [_values(arm, where)]
            if value is not None
        ]
        for family, arms in found.items()
    }


def _values(arm: ArmResult, where: str) -> tuple[float | None, Interval, list[tuple[int, float]]]:
    """An arm's interquartile mean, its interval, and each seed's value, seen or unseen."""
    if where == "unseen":
        dots = [(row.seed, row.final) for row in arm.seeds if row.final is not None]
        return arm.iqm, arm.interval, dots
    assert arm.seen is not None, "asked of arms that have it"
    return arm.seen.iqm, arm.seen.interval, list(arm.seen.by_seed.items())
