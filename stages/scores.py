"""A task's metric over episodes: return, success, or Crafter's score."""

import math
from collections.abc import Sequence
from typing import Any

from tasks.contract import Metric
from tasks.crafter import ACHIEVEMENTS, crafter_score

Row = dict[str, Any]


def finite(value: Any) -> float | None:
    """A number that JSON can hold, else None."""
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


def metric_of(rows: Sequence[Row]) -> Metric | None:
    """The metric that episodes were measured by; None if they do not tell it.

    A row that names its `metric` is believed. Otherwise `value` is compared with `return` and
    `success`, over as many rows as can be had: a single row of zeros fits both.
    """
    for row in rows:
        if row.get("metric") in ("return", "success", "score"):
            return row["metric"]
    if any(row.get("achievements") is not None and row.get("value") is None for row in rows):
        return "score"
    pairs = [(row["value"], row) for row in rows if finite(row.get("value")) is not None]
    for metric in ("return", "success"):
        if pairs and all(finite(row.get(metric)) == float(value) for value, row in pairs):
            other = "success" if metric == "return" else "return"
            same = all(finite(row.get(other)) == float(value) for value, row in pairs)
            return None if same else metric
    return None


def value_of(rows: Sequence[Row], metric: Metric) -> float | None:
    """The metric over the episodes of one seed; None without episodes."""
    if metric == "score":
        shares = achievement_shares(rows)
        return crafter_score([100 * share for share in shares.values()]) if shares else None
    values = [finite(row.get("value", row.get(metric))) for row in rows]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def achievement_shares(rows: Sequence[Row]) -> dict[str, float]:
    """Share of episodes, in [0, 1], in which each achievement was unlocked at least once."""
    counted = [row["achievements"] for row in rows if isinstance(row.get("achievements"), dict)]
    if not counted:
        return {}
    found = dict.fromkeys(name for counts in counted for name in counts)
    names = ACHIEVEMENTS if set(found) <= set(ACHIEVEMENTS) else tuple(found)
    return {
        name: sum((counts.get(name) or 0) > 0 for counts in counted) / len(counted)
        for name in names
    }
