"""Planner by planner: the same final agents under each, and what they expected against what came.

of_arm    one arm on one task, from its episodes
cells     planner x variant (of another world model, say), per task and over all tasks
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stages import scores, statistics
from stages.records import PLANNED, PLANNED_SEEN, SEEN, Evaluation, Row
from stages.result_types import (
    Foresight,
    LoopResult,
    PlannerCell,
    PlannerResult,
    SeenResult,
    TaskResult,
)
from tasks.contract import Metric


def of_arm(
    main: Sequence[Evaluation],
    beside: Sequence[Evaluation],
    planners: Sequence[str],
    size_of: Callable[[str], tuple[str, int | None]],
    metric: Metric,
) -> dict[str, PlannerResult]:
    """Results by planner, in the order of `planners`, then those found besides.

    Args:
        main: the main evaluations, a seed each.
        beside: those with other planners.
        planners: their names, the main one's first.
        size_of: kind and size of a planner by its name.
    """
    unseen = _by_planner(((main, "final"), (beside, PLANNED)), planners[0])
    known = _by_planner(((main, SEEN), (beside, PLANNED_SEEN)), planners[0])
    found = {}
    for name in dict.fromkeys([*planners, *unseen]):
        rows = unseen.get(name, {})
        if (value := over_seeds(rows, metric)) is not None:
            kind, size = size_of(name)
            found[name] = PlannerResult(
                kind=kind,
                size=size,
                iqm=value.iqm,
                interval=value.interval,
                by_seed=value.by_seed,
                episodes=sum(map(len, rows.values())),
                seen=over_seeds(known.get(name, {}), metric),
                foresight=foresight(rows),
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


def cells(variants: Mapping[str, LoopResult]) -> list[PlannerCell]:
    """The matrix: a cell per task, arm, variant and planner, then those over all tasks.

    Empty where no variant was evaluated with a second planner.
    """
    by_task = _by_task(variants)
    everything = [arms for tasks in by_task.values() for arms in tasks.values()]
    if not any(len(found) > 1 for arms in everything for found in arms.values()):
        return []
    cells = [
        _cell(task, arm, name, variants[name], planner, result.iqm, result.interval,
              len(result.by_seed))
        for task, loops in by_task.items()
        for name, arms in loops.items()
        for arm, planners in arms.items()
        for planner, result in planners.items()
    ]  # fmt: skip
    return cells + _over_tasks(variants, by_task)


Found = Mapping[str, Mapping[str, Mapping[str, Mapping[str, PlannerResult]]]]


def _by_task(variants: Mapping[str, LoopResult]) -> Found:
    """task -> variant -> arm -> planner -> its result."""
    names = dict.fromkeys(task for result in variants.values() for task in result.tasks)
    return {
        task: {
            name: {arm: found.planners for arm, found in result.tasks[task].arms.items()}
            for name, result in variants.items()
            if task in result.tasks
        }
        for task in names
    }


def _over_tasks(variants: Mapping[str, LoopResult], by_task: Found) -> list[PlannerCell]:
    """Cells over all tasks, on one scale; of what was evaluated on every one of them."""
    if len(by_task) < 2:
        return []
    bounds = {task: _bounds(variants, task) for task in by_task}
    found = []
    for name, result in variants.items():
        loops = [loops.get(name, {}) for loops in by_task.values()]
        arms = dict.fromkeys(arm for loop in loops for arm in loop)
        for arm in arms:
            tables = [loop.get(arm, {}) for loop in loops]
            for planner in tables[0]:
                if not all(planner in table for table in tables):
                    continue
                strata = [
                    (np.array(list(table[planner].by_seed.values())) - low) / (high - low)
                    for table, (low, high) in zip(tables, bounds.values(), strict=True)
                ]
                value = statistics.estimate(strata)
                found.append(
                    _cell(None, arm, name, result, planner, value.value, value.interval, value.runs)
                )
    return found


def _bounds(variants: Mapping[str, LoopResult], task: str) -> tuple[float, float]:
    """What counts as 0 and as 1 on a task, the same for every variant: the random policy, and the
    oracle or, without one, the best run. A success rate stays as it is."""
    results = [result.tasks[task] for result in variants.values() if task in result.tasks]
    if all(result.metric == "success" for result in results):
        return 0.0, 1.0
    values = [value for result in results for value in _values(result)]
    low = _reference(results, "random", min(values, default=0.0))
    high = _reference(results, "oracle", max(values, default=low))
    return low, high if high > low else low + 1.0


def _reference(results: Sequence[TaskResult], name: str, otherwise: float) -> float:
    found = [value for r in results for key, value in r.references.items() if key == name]
    return found[0] if found else otherwise


def _values(result: TaskResult) -> list[float]:
    planners = [found for arm in result.arms.values() for found in arm.planners.values()]
    return [value for found in planners for value in found.by_seed.values()]


def _cell(
    task: str | None,
    arm: str,
    variant: str,
    result: LoopResult,
    planner: str,
    iqm: float,
    interval: tuple[float, float] | None,
    runs: int,
) -> PlannerCell:
    return PlannerCell(
        task=task,
        arm=arm,
        variant=variant,
        world_model=result.world_model,
        planner=planner,
        iqm=iqm,
        interval=interval,
        runs=runs,
    )
