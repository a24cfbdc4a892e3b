"""A task's metric over episodes: return, success, or Crafter's score."""

import math
from collections.abc import Sequence
from typing import Any

from tasks.contract import Metric

Row = dict[str, Any]

# The order of Hafner, "Benchmarking the Spectrum of Agent Capabilities" (arXiv 2109.06780).
CRAFTER_ACHIEVEMENTS = (
    "collect_coal",
    "collect_diamond",
    "collect_drink",
    "collect_iron",
    "collect_sapling",
    "collect_stone",
    "collect_wood",
    "defeat_skeleton",
    "defeat_zombie",
    "eat_cow",
    "eat_plant",
    "make_iron_pickaxe",
    "make_iron_sword",
    "make_stone_pickaxe",
    "make_stone_sword",
    "make_wood_pickaxe",
    "make_wood_sword",
    "place_furnace",
    "place_plant",
    "place_stone",
    "place_table",
    "wake_up",
)


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
        return score(list(shares.values())) if shares else None
    values = [finite(row.get("value", row.get(metric))) for row in rows]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def achievement_shares(rows: Sequence[Row]) -> dict[str, float]:
    """Share of episodes, in [0, 1], in which each achievement was unlocked at least once."""
    counted = [row["achievements"] for row in rows if isinstance(row.get("achievements"), dict)]
    if not counted:
        return {}
    found = dict.fromkeys(name for counts in counted for name in counts)
    names = CRAFTER_ACHIEVEMENTS if set(found) <= set(CRAFTER_ACHIEVEMENTS) else tuple(found)
    return {
        name: sum((counts.get(name) or 0) > 0 for counts in counted) / len(counted)
        for name in names
    }


def score(shares: Sequence[float]) -> float:
    """Crafter's score in percent: exp(mean of ln(1 + s)) - 1, with s in percent."""
    return math.exp(sum(math.log1p(100 * share) for share in shares) / len(shares)) - 1
