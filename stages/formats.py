"""Numbers and names as the report prints them."""

import math
from collections.abc import Iterable

from tasks.contract import Metric

Bounds = tuple[float, float] | None

MINUS, THIN, DASH = "−", "\u202f", "–"

PHRASES = {
    "scratch": "starting from scratch",
    "model": "carrying the world model",
    "policy": "carrying the policy",
    "both": "carrying both",
    "encoder": "carrying the encoder alone",
}
UNITS = {"return": "return", "success": "success rate", "score": "score"}


def decimals(values: Iterable[float | None]) -> int:
    """How many decimals leave about two significant digits to the largest of `values`."""
    size = max((abs(value) for value in values if value is not None), default=0.0)
    if size == 0:
        return 0
    return min(4, max(0, 1 - math.floor(math.log10(size))))


def number(value: float | None, digits: int | None = None, *, signed: bool = False) -> str:
    """`1 234`, `−0.25`, `+3`, or a dash for what is unknown."""
    if value is None:
        return DASH
    digits = decimals([value]) if digits is None else digits
    rounded = round(value, digits)
    text = f"{abs(rounded):,.{digits}f}".replace(",", THIN)
    sign = MINUS if rounded < 0 else "+" if signed and rounded > 0 else ""
    return sign + text


def interval(bounds: Bounds, digits: int, *, signed: bool = False) -> str:
    """`[32, 56]`, or "" where there is none."""
    if bounds is None:
        return ""
    low, high = (number(value, digits, signed=signed) for value in bounds)
    return f"[{low}, {high}]"


def measured(
    value: float | None,
    bounds: Bounds,
    metric: Metric | None = None,
    *,
    signed: bool = False,
    digits: int | None = None,
) -> str:
    """A value with its interval in the metric's unit: `46 [32, 56]`, `80 % [72, 91]`.

    Args:
        metric: None prints the plain number.
        digits: decimals; None takes what value and bounds need together.
    """
    if value is None:
        return DASH
    factor, unit = scale(metric), sign(metric)
    if unit and signed:
        unit = "points"  # a difference of percentages
    value = value * factor
    bounds = (bounds[0] * factor, bounds[1] * factor) if bounds else None
    if digits is None:
        digits = decimals([value, *(bounds or ())])
    shown = number(value, digits, signed=signed) + (f"{THIN}{unit}" if unit else "")
    return " ".join(filter(None, [shown, interval(bounds, digits, signed=signed)]))


def shared_decimals(metric: Metric | None, *parts: tuple[float | None, Bounds]) -> int:
    """Decimals that suit several measured values side by side."""
    factor = scale(metric)
    flat = [x for value, bounds in parts for x in (value, *(bounds or ())) if x is not None]
    return decimals([factor * x for x in flat])


def scale(metric: Metric | None) -> float:
    """Success is measured as a share and shown in percent."""
    return 100.0 if metric == "success" else 1.0


def sign(metric: Metric | None) -> str:
    """The unit's sign behind a number; "" for returns."""
    return "%" if metric in ("success", "score") else ""


def unit(metric: Metric) -> str:
    """A metric as an axis names it: `return`, `success rate, %`."""
    return UNITS[metric] + (f", {shown}" if (shown := sign(metric)) else "")


def steps(count: int | float | None) -> str:
    """`10 000`."""
    return DASH if count is None else number(float(count), 0)


def compact(count: float) -> str:
    """`500`, `2k`, `1.5M`, for axes."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= size:
            return f"{count / size:g}{letter}"
    return f"{count:g}".replace("-", MINUS)


def plural(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def phrase(arm: str) -> str:
    """What an arm does, in words."""
    return PHRASES.get(arm, f"the arm “{arm}”")


def short_task(task: str) -> str:
    """A task's name without its suite or folder: `push_left:sparse`."""
    if task.startswith("crafter/"):  # "reward" alone would not say which world
        return task
    if ".py:" in task:
        path, _, factory = task.rpartition(":")
        return f"{path.rpartition('/')[2]}:{factory}"
    return task.rpartition("/")[2] or task


def listing(names: Iterable[str]) -> str:
    """`a, b and c`."""
    items = list(names)
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))
