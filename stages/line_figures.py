"""Values over a number that was varied, such as levels or simulations: a line with a band each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from stages import formats
from stages.figures import MARGINS, WIDTH, Figure, caption_of
from stages.palette import styles
from stages.result_types import ArmResult, Interval
from stages.svg import Plot, extent
from tasks.contract import Metric

MARKS = {"circle": "●", "square": "■", "triangle": "▲", "down": "▼", "diamond": "◆", "cross": "✚",
         "hexagon": "⬢"}  # fmt: skip
ROOM = 0.05  # of the axis, left and right of the outer points


@dataclass(frozen=True)
class Point:
    """What was reached with so many levels, simulations or the like."""

    number: int
    value: float
    interval: Interval


Lines = Mapping[str, Sequence[Point]]


@dataclass(frozen=True)
class Axis:
    """What was varied: its `noun` (plural), its `label`, and where along the axis a number lies."""

    noun: str
    label: str
    place: Callable[[float], float]


def limits_of(lines: Iterable[Lines], metric: Metric) -> tuple[float, float]:
    """A scale that figures can share."""
    factor = formats.scale(metric)
    points = [point for figure in lines for line in figure.values() for point in line]
    return extent([factor * x for p in points for x in (p.value, *(p.interval or ()))])


def over(
    title: str,
    said: str,
    lines: Lines,
    axis: Axis,
    metric: Metric,
    limits: tuple[float, float],
    behind: Iterable[ArmResult],
) -> Figure:
    """A line per name through its points.

    Args:
        said: the alternative text before its numbers.
        limits: of the values' scale (`limits_of`).
        behind: the arms whose seeds, env steps and updates the caption tells.
    """
    looks, factor = styles(lines), formats.scale(metric)
    numbers = sorted({point.number for line in lines.values() for point in line})
    low, high = axis.place(numbers[0]), axis.place(numbers[-1])
    room = ROOM * ((high - low) or 1.0)
    plot = Plot((WIDTH, 250), (low - room, high + room), limits, MARGINS)
    plot.y_axis(formats.unit(metric), formats.compact)
    plot.x_axis(axis.label, {axis.place(n): formats.compact(n) for n in numbers})
    told = []
    for name, line in lines.items():
        look = looks[name]
        banded = [(axis.place(p.number), *p.interval) for p in line if p.interval]
        plot.band([(x, factor * a) for x, a, _ in banded], [(x, factor * b) for x, _, b in banded],
                  look.colour)  # fmt: skip
        points = [(axis.place(p.number), factor * p.value) for p in line]
        plot.line(points, look.colour)
        for at, point in zip(points, line, strict=True):
            tip = f"{name}, {point.number} {axis.noun}: {formats.number(at[1])}"
            plot.mark(at, look.shape, look.colour, "mark", 4.2, tip)
        values = [f"{formats.measured(p.value, p.interval, metric)} with {p.number}" for p in line]
        told.append(f"{name} {', '.join(values)}")
    legend = ", ".join(f"{MARKS.get(looks[name].shape, '')} {name}" for name in lines)
    return Figure(title, plot.render(f"{said}: {'; '.join(told)}."), caption_of(behind, legend))
