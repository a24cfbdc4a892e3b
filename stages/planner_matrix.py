"""Planner x world model as a matrix, per task and arm and over all tasks.

evaluating    a row per variant, a column per planner at evaluation: the same agents in every column
collecting    a row per family of variants, a column per planner while collecting: other agents each
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from stages import statistics
from stages.result_types import Interval, LoopResult, PlannerCell, TaskResult


class Value(NamedTuple):
    """What a cell holds: an interquartile mean, its interval, and each seed's value."""

    iqm: float
    interval: Interval
    by_seed: Mapping[int, float]


Planners = dict[str, Value]


class Row(NamedTuple):
    """A row of the matrix: who plans with which world model, by task and arm."""

    world_model: str | None
    values: dict[str, dict[str, Planners]]


def evaluating(variants: Mapping[str, LoopResult]) -> list[PlannerCell]:
    """The cells of evaluation; none where no variant was evaluated with a second planner."""

    def values(result: TaskResult) -> dict[str, Planners]:
        return {
            name: {p: Value(v.iqm, v.interval, v.by_seed) for p, v in arm.planners.items()}
            for name, arm in result.arms.items()
        }

    rows = {
        name: Row(loop.world_model, {t: values(result) for t, result in loop.tasks.items()})
        for name, loop in variants.items()
    }
    return _cells(variants, rows)


def collecting(variants: Mapping[str, LoopResult]) -> list[PlannerCell]:
    """The cells of collecting, of variants whose names end in who collects.

    `rssm-cem`, with `planning.collect = "cem"`, is in row `rssm` and column `cem`. None where no
    row has two columns.
    """
    rows: dict[str, Row] = {}
    for name, loop in variants.items():
        family = name.removesuffix(f"-{loop.collect}")
        if loop.collect is None or family == name:
            continue
        row = rows.setdefault(family, Row(loop.world_model, {}))
        for task, result in loop.tasks.items():
            for arm, reached in result.arms.items():
                if reached.iqm is not None:
                    finals = {s.seed: s.final for s in reached.seeds if s.final is not None}
                    planners = row.values.setdefault(task, {}).setdefault(arm, {})
                    planners[loop.collect] = Value(reached.iqm, reached.interval, finals)
    return _cells(variants, rows)


def _cells(variants: Mapping[str, LoopResult], rows: Mapping[str, Row]) -> list[PlannerCell]:
    """A cell per task, arm, row and planner, then those over all tasks."""
    tasks = dict.fromkeys(task for row in rows.values() for task in row.values)
    tables = [
        found for row in rows.values() for arms in row.values.values() for found in arms.items()
    ]
    if not any(len(planners) > 1 for _, planners in tables):
        return []
    cells = [
        _cell(task, arm, name, row, planner, value)
        for task in tasks
        for name, row in rows.items()
        for arm, planners in row.values.get(task, {}).items()
        for planner, value in planners.items()
    ]
    return cells + _over_tasks(rows, {task: _bounds(variants, task) for task in tasks})


def _over_tasks(
    rows: Mapping[str, Row], bounds: Mapping[str, tuple[float, float]]
) -> list[PlannerCell]:
    """Cells over all tasks, on one scale; of what there is on every one of them."""
    if len(bounds) < 2:
        return []
    found = []
    for name, row in rows.items():
        loops = [row.values.get(task, {}) for task in bounds]
        for arm in dict.fromkeys(arm for loop in loops for arm in loop):
            tables = [loop.get(arm, {}) for loop in loops]
            for planner in tables[0]:
                if not all(planner in table for table in tables):
                    continue
                strata = [
                    (np.array(list(table[planner].by_seed.values())) - low) / (high - low)
                    for table, (low, high) in zip(tables, bounds.values(), strict=True)
                ]
                value = statistics.estimate(strata)
                runs = dict(enumerate(np.concatenate(strata).tolist()))
                cell = Value(value.value, value.interval, runs)
                found.append(_cell(None, arm, name, row, planner, cell))
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
    task: str | None, arm: str, name: str, row: Row, planner: str, value: Value
) -> PlannerCell:
    return PlannerCell(
        task=task,
        arm=arm,
        variant=name,
        world_model=row.world_model,
        planner=planner,
        iqm=value.iqm,
        interval=value.interval,
        runs=len(value.by_seed),
    )
