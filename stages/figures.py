"""Figures about the arms: fine-tuning curves, final values, the 2 x 2 effects, profiles.

Every figure carries an alternative text with its numbers and a caption that says how many seeds,
env steps and updates stand behind it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages import formats, statistics
from stages.palette import Style
from stages.result_types import ArmResult, DesignResult, LoopResult, TaskResult
from stages.svg import Plot, extent
from tasks.contract import Metric

REFERENCE_NAMES = {"random": "random policy", "oracle": "oracle"}
INK = "--ink"
WIDTH = 360  # about a phone's column, so that text is never scaled below reading size
MARGINS = (42, 14, 26, 36)


@dataclass(frozen=True)
class Figure:
    """A figure ready for the page."""

    title: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Row:
    """One row of a plot that is read row by row."""

    label: str
    style: Style
    value: float
    interval: tuple[float, float] | None
    dots: Sequence[float]
    tips: Sequence[str]


def curves(task: str, result: TaskResult, styles: Mapping[str, Style]) -> Figure | None:
    """Fine-tuning curves with bands and reference lines; None before the first evaluation."""
    plot = curve_plot(result, styles)
    if plot is None:
        return None
    arms = with_curves(result)
    banded = any(point.interval for arm in arms.values() for point in arm.curve)
    return Figure(
        "Fine-tuning",
        plot.render(curves_said(task, result)),
        caption_of(arms.values(), "95 % bands" if banded else "one seed has no band"),
    )


def curve_plot(
    result: TaskResult,
    styles: Mapping[str, Style],
    size: tuple[int, int] = (WIDTH, 250),
    margins: tuple[int, int, int, int] = MARGINS,
    parts: list[str] | None = None,
) -> Plot | None:
    """A task's curves as a plot, alone or within a larger picture, whose `parts` it adds to."""
    arms = with_curves(result)
    if not arms:
        return None
    factor = formats.scale(result.metric)
    heights = [factor * x for arm in arms.values() for x in _reach(arm)]
    references = {name: factor * value for name, value in result.references.items()}
    last = max(arm.curve[-1].env_steps for arm in arms.values())
    limits = extent([*heights, *references.values()])
    plot = Plot(size, (0, last or 1), limits, margins, [] if parts is None else parts)
    plot.y_axis(formats.unit(result.metric), formats.compact)
    plot.x_axis("env steps of fine-tuning", formats.compact)
    for name, arm in arms.items():
        _curve(plot, name, arm, styles[name], factor)
    for name, value in references.items():  # last, so that their names can be read
        plot.level(value, REFERENCE_NAMES[name])
    return plot


def with_curves(result: TaskResult) -> dict[str, ArmResult]:
    """The arms that have been evaluated while they were fine-tuned."""
    return {name: arm for name, arm in result.arms.items() if arm.curve}


def curves_said(task: str, result: TaskResult) -> str:
    """A task's curves in words."""
    last_points = {name: arm.curve[-1] for name, arm in with_curves(result).items()}
    last = max(point.env_steps for point in last_points.values())
    ends = [
        f"{name} ends at {formats.measured(point.iqm, point.interval, result.metric)}"
        for name, point in last_points.items()
    ]
    return (
        f"Fine-tuning curves on {task}: {formats.unit(result.metric)} over {formats.steps(last)} "
        f"env steps. {'; '.join(ends)}. {_references(result)}"
    )


def finals(task: str, result: TaskResult, styles: Mapping[str, Style]) -> Figure | None:
    """Each seed's final value as a dot, with the arms' interquartile means and intervals."""
    arms = {name: arm for name, arm in result.arms.items() if arm.iqm is not None}
    if not arms:
        return None
    factor = formats.scale(result.metric)
    rows = [_arm_row(name, arm, styles[name], result.metric) for name, arm in arms.items()]
    plot = rows_plot(
        rows,
        formats.unit(result.metric),
        {REFERENCE_NAMES[name]: factor * value for name, value in result.references.items()},
    )
    said = [
        f"{name} {formats.measured(arm.iqm, arm.interval, result.metric)}, "
        f"{formats.plural(len(_known(arm)), 'seed')}"
        for name, arm in arms.items()
    ]
    alt = f"Final values on {task}, interquartile mean and 95 % interval: {'; '.join(said)}. "
    episodes = max(arm.episodes // max(len(_known(arm)), 1) for arm in arms.values())
    caption = caption_of(arms.values(), f"each dot is a seed over {episodes} fresh episodes")
    return Figure("After fine-tuning", plot.render(alt + _references(result)), caption)


def overall(results: LoopResult, styles: Mapping[str, Style]) -> Figure | None:
    """All tasks together on one scale; None without an aggregate."""
    whole = results.aggregate
    if whole is None:
        return None
    rows = [
        Row(name, styles[name], arm.iqm, arm.interval, (), ()) for name, arm in whole.arms.items()
    ]
    plot = rows_plot(rows, "normalised value", {})
    said = [f"{name} {formats.measured(a.iqm, a.interval)}" for name, a in whole.arms.items()]
    alt = f"All {len(whole.tasks)} tasks on one scale ({whole.normalisation}): {'; '.join(said)}."
    runs = max(arm.runs for arm in whole.arms.values())
    behind = [arm for task in results.tasks.values() for arm in task.arms.values()]
    caption = f"{whole.normalisation} · {formats.plural(runs, 'run')} per arm · {_effort(behind)}"
    return Figure("All tasks together", plot.render(alt), caption)


def effects(
    title: str, design: DesignResult, metric: Metric | None, arms: Sequence[ArmResult]
) -> Figure:
    """The 2 x 2 design: what the model, the policy and their interaction add, paired by seed."""
    factor = formats.scale(metric)
    parts = {"the model": design.model, "the policy": design.policy,
             "their interaction": design.interaction}  # fmt: skip
    looks = (
        Style("--arm-model", "square"),
        Style("--arm-policy", "triangle"),
        Style(INK, "circle"),
    )
    rows = [
        Row(
            label=label,
            style=look,
            value=factor * part.value,
            interval=_scaled(part.interval, factor),
            dots=[factor * value for value in part.by_seed],
            tips=[f"seed {seed}" for seed in design.seeds],
        )
        for (label, part), look in zip(parts.items(), looks, strict=True)
    ]
    unit = "points" if formats.sign(metric) else formats.UNITS[metric or "return"]
    plot = rows_plot(rows, f"added {unit if metric else 'normalised value'}", {}, signed=True)
    said = [
        f"{label} {formats.measured(part.value, part.interval, metric, signed=True)}"
        for label, part in parts.items()
    ]
    alt = f"Effects on {title}, mean over seeds and 95 % interval: {'; '.join(said)}."
    pairs = f"{formats.plural(len(design.seeds), 'pair')} of runs, each seed against itself"
    return Figure(f"What each part adds: {title}", plot.render(alt), f"{pairs} · {_effort(arms)}")


def profile(
    values: Mapping[str, Sequence[np.ndarray]],
    styles: Mapping[str, Style],
    unit: str,
    effort: Sequence[ArmResult],
) -> Figure | None:
    """Share of runs above each threshold.

    Args:
        values: arm -> per task an array [seeds], on one scale.
    """
    runs = [value for strata in values.values() for scores in strata for value in scores]
    if not runs:
        return None
    low, high = extent(runs, room=0.02)
    thresholds = np.linspace(low, high, 121)
    plot = Plot((WIDTH, 230), (low, high), (0, 1), MARGINS)
    plot.y_axis("share of runs above", lambda share: f"{100 * share:.0f} %")
    plot.x_axis(unit, formats.compact)
    said = []
    for name, strata in values.items():
        found = statistics.performance_profile(strata, thresholds)
        if found.low is not None and found.high is not None:
            plot.band(_points(thresholds, found.low), _points(thresholds, found.high),
                      styles[name].colour)  # fmt: skip
        plot.line(_points(thresholds, found.share), styles[name].colour)
        said.append(f"{name} {100 * found.share[len(thresholds) // 2]:.0f} %")
    middle = formats.number((low + high) / 2)
    alt = (
        f"Performance profile: share of runs above each {unit}. Above {middle}: {', '.join(said)}."
    )
    count = max(sum(map(len, strata)) for strata in values.values())
    caption = f"{formats.plural(count, 'run')} per arm · {_effort(effort)} · higher is better"
    return Figure("Performance profile", plot.render(alt), caption)


def variants(task: str, arm: str, results: Mapping[str, LoopResult], style: Style) -> Figure | None:
    """One arm on one task under every variant."""
    found = {
        name: result.tasks[task]
        for name, result in results.items()
        if task in result.tasks
        and arm in result.tasks[task].arms
        and result.tasks[task].arms[arm].iqm is not None
    }
    if len(found) < 2:
        return None
    metric = next(iter(found.values())).metric
    rows = [_arm_row(name, task.arms[arm], style, metric) for name, task in found.items()]
    unit = formats.unit(metric)
    said = [
        f"{name} {formats.measured(task.arms[arm].iqm, task.arms[arm].interval, metric)}"
        for name, task in found.items()
    ]
    alt = f"The arm {arm} on {task} under each variant: {'; '.join(said)}. "
    behind = [task.arms[arm] for task in found.values()]
    everyone = [a for r in results.values() if task in r.tasks for a in r.tasks[task].arms.values()]
    told = [task.references for task in found.values()]
    beside = {
        REFERENCE_NAMES[name]: formats.scale(metric) * value
        for name, value in told[0].items()
        if all(other.get(name) == value for other in told)
    }
    reach = [formats.scale(metric) * x for a in everyone for x in _known(a)]
    plot = rows_plot(rows, unit, beside, limits=extent([*reach, *beside.values()]))
    alt += _references(next(iter(found.values()))) if beside else ""
    return Figure(arm, plot.render(alt), caption_of(behind, "dots are seeds"))


def rows_plot(
    rows: Sequence[Row],
    label: str,
    references: Mapping[str, float],
    *,
    signed: bool = False,
    limits: tuple[float, float] | None = None,
) -> Plot:
    """Rows of dots, each with its interval as a bar and its centre as a marker."""
    reach = [x for row in rows for x in (row.value, *row.dots, *(row.interval or ()))]
    low, high = limits or extent([*reach, *references.values()])
    digits = formats.decimals(reach)
    height = 44 * len(rows) + 66
    shown = [
        formats.measured(row.value, row.interval, None, signed=signed, digits=digits)
        for row in rows
    ]
    right = max(40, round(6.3 * max(map(len, shown)))) + 12  # room for the figures
    plot = Plot((WIDTH, height), (low, high), (len(rows), 0), (10, right, 26, 40))
    plot.x_grid(label, _signed if signed else formats.compact)
    if signed:
        plot.upright(0.0, "", "zero")
    for name, value in references.items():
        plot.upright(value, name)
    for index, (row, said) in enumerate(zip(rows, shown, strict=True)):
        middle = index + 0.66
        plot.text(plot.x.start, plot.y(index + 0.3), row.label, "row")
        plot.text(plot.size[0] - 2, plot.y(middle) + 4, said, "value", "end")
        if row.interval:
            plot.bar(*row.interval, middle, 9, row.style.colour, "interval")
        for dot, tip in zip(row.dots, row.tips, strict=True):
            at = formats.number(dot, digits, signed=signed)
            plot.mark((dot, middle), "circle", row.style.colour, "dot", 3.2, f"{tip}: {at}")
        plot.mark((row.value, middle), row.style.shape, row.style.colour, "mark", 5.5, said)
    return plot


def _arm_row(label: str, arm: ArmResult, style: Style, metric: Metric) -> Row:
    factor = formats.scale(metric)
    known = [(row.seed, factor * row.final) for row in arm.seeds if row.final is not None]
    return Row(
        label=label,
        style=style,
        value=factor * (arm.iqm or 0.0),
        interval=_scaled(arm.interval, factor),
        dots=[value for _, value in known],
        tips=[f"seed {seed}" for seed, _ in known],
    )


def _curve(plot: Plot, name: str, arm: ArmResult, style: Style, factor: float) -> None:
    banded = [(p.env_steps, *p.interval) for p in arm.curve if p.interval]
    plot.band([(x, factor * low) for x, low, _ in banded],
              [(x, factor * high) for x, _, high in banded], style.colour)  # fmt: skip
    plot.line([(p.env_steps, factor * p.iqm) for p in arm.curve], style.colour)
    for point in arm.curve:
        at = (point.env_steps, factor * point.iqm)
        tip = f"{name}, {formats.steps(point.env_steps)} env steps: {formats.number(at[1])}"
        plot.mark(at, style.shape, style.colour, "mark", 3.4, tip)


def _reach(arm: ArmResult) -> list[float]:
    return [x for point in arm.curve for x in (point.iqm, *(point.interval or ()))]


def _known(arm: ArmResult) -> list[float]:
    return [row.final for row in arm.seeds if row.final is not None]


def _references(result: TaskResult) -> str:
    said = [
        f"the {REFERENCE_NAMES[name]} reaches {formats.measured(value, None, result.metric)}"
        for name, value in result.references.items()
    ]
    return f"For reference, {formats.listing(said)}." if said else ""


def caption_of(behind: Iterable[ArmResult], last: str) -> str:
    """How many seeds, env steps and updates stand behind a figure, and a last word on it."""
    arms = list(behind)
    counts = sorted({len(_known(arm)) or len(arm.seeds) for arm in arms})
    seeds = "–".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    noun = "seed" if counts[-1] == 1 else "seeds"
    return f"{seeds} {noun} · {_effort(arms)} · {last}"


def _effort(arms: Sequence[ArmResult]) -> str:
    steps = {arm.env_steps for arm in arms if arm.env_steps is not None}
    updates = {arm.updates for arm in arms if arm.updates is not None}
    return f"{_range(steps)} env steps · {_range(updates)} updates"


def _range(counts: set[int]) -> str:
    if not counts:
        return formats.DASH
    return "–".join(formats.steps(x) for x in dict.fromkeys([min(counts), max(counts)]))


def _scaled(bounds: tuple[float, float] | None, factor: float) -> tuple[float, float] | None:
    return (bounds[0] * factor, bounds[1] * factor) if bounds else None


def _points(xs: np.ndarray, ys: np.ndarray) -> list[tuple[float, float]]:
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + formats.compact(value)
