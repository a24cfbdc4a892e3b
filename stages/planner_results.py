"""Planner by planner: the same final agents of an arm under each, and what they expected against
what came."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stages import scores, statistics
from stages.records import PLANNED, PLANNED_SEEN, SEEN, Evaluation, Row
from stages.result_types import Effect, Foresight, PlannerResult, SeenResult
from tasks.contract import Metric


def of_arm(
    main: Sequence[Evaluation],
    beside: Sequence[Evaluation],
    planners: Sequence[str],
    planner_of: Callable[[str], tuple[str, int | None, str | None]],
    metric: Metric,
) -> dict[str, PlannerResult]:
    """Results by planner, in the order of `planners`, then those found besides.

    Args:
        main: the main evaluations, a seed each.
        beside: those with other planners.
        planners: their names, the main one's first.
        planner_of: kind, size and model of a planner by its name (`records.Loop.planner_of`).
    """
    unseen = _by_planner(((main, "final"), (beside, PLANNED)), planners[0])
    known = _by_planner(((main, SEEN), (beside, PLANNED_SEEN)), planners[0])
    found: dict[str, PlannerResult] = {}
    for name in dict.fromkeys([*planners, *unseen]):
        rows = unseen.get(name, {})
        if (value := over_seeds(rows, metric)) is not None:
            kind, size, model = planner_of(name)
            found[name] = PlannerResult(
                kind=kind,
                size=size,
                model=model,
                iqm=value.iqm,
                interval=value.interval,
                by_seed=value.by_seed,
                episodes=sum(map(len, rows.values())),
                seen=over_seeds(known.get(name, {}), metric),
                foresight=foresight(rows),
                gain=_gain(value, found.get(planners[0])),
            )
    return found


Rows = Mapping[int, Sequence[Row]]  # episodes by seed


def _by_planner(
    labelled: Sequence[tuple[Sequence[Evaluation], str]], main: str
) -> dict[str, dict[int, list[Row]]]:
    """Episodes at the labels, by who acted in them and then by seed."""
    found: dict[str, dict[int, list[Row]]] = {}
    for tables, label in labelled:
        for table in tables:
            for row in table.at(label):
                by_seed = found.setdefault(str(row.get("planner") or main), {})
                by_seed.setdefault(table.job.seed, []).append(row)
    return found


def over_seeds(rows: Rows, metric: Metric) -> SeenResult | None:
    """The interquartile mean of seeds' values; None without any episode."""
    values = {seed: scores.value_of(found, metric) for seed, found in sorted(rows.items())}
    known = {seed: value for seed, value in values.items() if value is not None}
    if not known:
        return None
    value = statistics.estimate([np.array(list(known.values()))])
    return SeenResult(iqm=value.value, interval=value.interval, by_seed=known)


def _gain(value: SeenResult, main: PlannerResult | None) -> Effect | None:
    """What acting so adds to each agent's own value with the main planner; None without that."""
    both = sorted(value.by_seed.keys() & main.by_seed.keys()) if main else []
    if main is None or not both:
        return None
    gains = [value.by_seed[seed] - main.by_seed[seed] for seed in both]
    mean = statistics.estimate([np.array(gains)], statistics.mean)
    return Effect(value=mean.value, interval=mean.interval, by_seed=gains)


def foresight(rows: Mapping[int, Sequence[Row]]) -> Foresight | None:
    """Expected against achieved discounted returns, over the episodes that tell both."""
    means: dict[int, tuple[float, float]] = {}
    for seed, found in sorted(rows.items()):
        told = [(scores.finite(row.get("expected_return")),
                 scores.finite(row.get("discounted_return"))) for row in found]  # fmt: skip
        pairs = [pair for pair in told if None not in pair]
        if pairs:
            expected, came = np.mean(np.array(pairs, float), axis=0)
            means[seed] = float(expected), float(came)
    if not means:
        return None
    expected, came = np.array(list(means.values())).T
    excess = statistics.estimate([expected - came], statistics.mean)
    return Foresight(
        expected=float(expected.mean()),
        achieved=float(came.mean()),
        excess=excess.value,
        interval=excess.interval,
        by_seed={seed: expected - came for seed, (expected, came) in means.items()},
    )
