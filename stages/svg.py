"""Small SVG plots drawn by hand: text stays text, colours stay CSS variables.

A plot so drawn follows the page's light or dark scheme, scales with its column, needs no script
and no font file, and is the same on every machine. Colours are names of CSS variables that the
template defines (`--arm-model`, `--ink`, ...).
"""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """A linear map from data [low, high] to pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers within the scale, about `count` of them."""
        return ticks(self.low, self.high, count)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten in [low, high]."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if span / (power * m) <= count)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def extent(values: Sequence[float], *, zero: bool = True, room: float = 0.06) -> Point:
    """Limits that hold all values, with a little room; `zero` also holds zero."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or abs(high) or 1.0
    return (low - room * span if low < 0 or not zero else low), high + room * span


@dataclass
class Plot:
    """A plot under construction: a canvas with an x and a y scale inside margins.

    Args:
        size: width and height in px; shown at about that size on a phone.
        x, y: data limits.
        margins: left, right, top, bottom in px.
    """

    size: tuple[int, int]
    x_limits: Point
    y_limits: Point
    margins: tuple[int, int, int, int] = (40, 12, 12, 34)
    parts: list[str] = field(default_factory=list)

    @property
    def x(self) -> Scale:
        left, right, _, _ = self.margins
        return Scale(*self.x_limits, left, self.size[0] - right)

    @property
    def y(self) -> Scale:
        _, _, top, bottom = self.margins
        return Scale(*self.y_limits, self.size[1] - bottom, top)

    def x_axis(
        self, label: str, ticks: Callable[[float], str] | Mapping[float, str], count: int = 5
    ) -> None:
        """Ticks below, with the axis' label under them; `ticks` are how round numbers, about
        `count` of them, are written, or what is written where."""
        bottom = self.y.start
        if not isinstance(ticks, Mapping):
            ticks = {tick: ticks(tick) for tick in self.x.ticks(count)}
        for tick, text in ticks.items():
            self.text(self.x(tick), bottom + 15, text, "tick", "middle")
        self._line(self.x.start, bottom, self.x.end, bottom, "axis")
        self.text(self.x.end, bottom + 30, label, "label", "end")

    def y_axis(self, label: str, form: Callable[[float], str], count: int = 4) -> None:
        """Faint lines across with ticks left, and the label above them."""
        for tick in self.y.ticks(count):
            self._line(self.x.start, self.y(tick), self.x.end, self.y(tick), "grid")
            self.text(self.x.start - 6, self.y(tick) + 4, form(tick), "tick", "end")
        self.text(max(2.0, self.x.start - 40), self.y.end - 10, label, "label", "start")

    def x_grid(self, label: str, form: Callable[[float], str], count: int = 4) -> None:
        """Faint upright lines with ticks below, for plots that are read row by row."""
        for tick in self.x.ticks(count):
            at = self.x(tick)
            self._line(at, self.y.end, at, self.y.start, "grid")
            self.text(at, self.y.start + 15, form(tick), "tick", "middle")
        self.text(self.x.end, self.y.start + 30, label, "label", "end")

    def line(self, points: Sequence[Point], colour: str, kind: str = "line") -> None:
        """A line through data points; `kind` is a CSS class (`line`, `thin`, `dashed`)."""
        if len(points) > 1:
            path = "M" + "L".join(f"{self.x(a):.1f} {self.y(b):.1f}" for a, b in points)
            self._add(f'<path class="{kind}" d="{path}" {_colour(colour)}/>')

    def band(self, low: Sequence[Point], high: Sequence[Point], colour: str) -> None:
        """The area between two lines."""
        if len(low) > 1:
            ring = [*low, *reversed(high)]
            path = "M" + "L".join(f"{self.x(a):.1f} {self.y(b):.1f}" for a, b in ring) + "Z"
            self._add(f'<path class="band" d="{path}" {_colour(colour)}/>')

    def bar(
        self, low: float, high: float, row: float, thick: float, colour: str, kind: str
    ) -> None:
        """A level bar from data `low` to `high`, `thick` px high, around the data row."""
        left, right = sorted((self.x(low), self.x(high)))
        self._add(
            f'<rect class="{kind}" x="{left:.1f}" y="{self.y(row) - thick / 2:.1f}" '
            f'width="{max(right - left, 0.8):.1f}" height="{thick:g}" rx="{min(thick / 2, 3):g}" '
            f"{_colour(colour)}/>"
        )

    def cell(
        self, at: tuple[float, float, float, float], colour: str, shade: float, *, framed: bool
    ) -> None:
        """A cell of a table at (left, top, width, height) in px, shaded from 0 to 1."""
        x, y, width, height = at
        self._add(
            f'<rect class="{"framed cell" if framed else "cell"}" x="{x:.1f}" y="{y:.1f}" '
            f'width="{width:.1f}" height="{height:.1f}" rx="6" fill-opacity="{shade:.2f}" '
            f"{_colour(colour)}/>"
        )

    def mark(
        self, at: Point, shape: str, colour: str, kind: str = "mark", size: float = 4, tip: str = ""
    ) -> None:
        """A marker at a data point: circle, square, triangle, diamond, cross, or star."""
        self.mark_px(self.x(at[0]), self.y(at[1]), shape, colour, kind, size, tip)

    def mark_px(
        self, x: float, y: float, shape: str, colour: str, kind: str, size: float, tip: str = ""
    ) -> None:
        """A marker at a place in px, with a tool tip."""
        title = f"<title>{html.escape(tip)}</title>" if tip else ""
        self._add(
            f'<path class="{kind}" d="{shape_path(shape, x, y, size)}" {_colour(colour)}>'
            f"{title}</path>"
        )

    def level(self, value: float, label: str, kind: str = "reference") -> None:
        """A dashed line across at a y value, named at its right end."""
        self._line(self.x.start, self.y(value), self.x.end, self.y(value), kind)
        self.text(self.x.end, self.y(value) - 4, label, "note", "end")

    def upright(self, value: float, label: str = "", kind: str = "reference") -> None:
        """A line upwards at an x value, named at its top."""
        self._line(self.x(value), self.y.end, self.x(value), self.y.start, kind)
        if label:
            at = self.x(value)
            anchor = (
                "start" if at < self.x.start + 45 else "end" if at > self.x.end - 45 else "middle"
            )
            self.text(at, self.y.end - 5, label, "note", anchor)

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """Text at a place in px."""
        self._add(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{html.escape(text)}</text>"
        )

    def render(self, alt: str) -> str:
        """The picture as an inline SVG element with its alternative text."""
        width, height = self.size
        return (
            f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="{html.escape(alt)}">{"".join(self.parts)}</svg>'
        )

    def _line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self._add(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def _add(self, part: str) -> None:
        self.parts.append(part)


def standalone(plot: Plot, alt: str, style: str) -> str:
    """A picture as a file of its own, in both colour schemes by the `style` it brings along."""
    width, height = plot.size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{html.escape(alt)}"><title>{html.escape(alt)}</title>'
        f"<style>{style}</style>"
        f'<rect width="{width}" height="{height}" style="fill:var(--card)"/>'
        f"{''.join(plot.parts)}</svg>\n"
    )


def shape_path(shape: str, x: float, y: float, size: float) -> str:
    """The outline of a marker as an SVG path."""
    corners = {
        "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
        "triangle": [(0, -1.15), (1.05, 0.75), (-1.05, 0.75)],
        "down": [(0, 1.15), (1.05, -0.75), (-1.05, -0.75)],
        "diamond": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
        "cross": [
            (-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4),
            (0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4),
        ],
        "hexagon": [(-1, 0), (-0.5, -0.9), (0.5, -0.9), (1, 0), (0.5, 0.9), (-0.5, 0.9)],
    }.get(shape)  # fmt: skip
    if corners is None:
        return (
            f"M{x - size:.1f} {y:.1f}a{size:g} {size:g} 0 1 0 {2 * size:g} 0"
            f"a{size:g} {size:g} 0 1 0 {-2 * size:g} 0Z"
        )
    return "M" + "L".join(f"{x + size * a:.1f} {y + size * b:.1f}" for a, b in corners) + "Z"


def _colour(name: str) -> str:
    return f'style="--c:var({name})"'
