"""Planner x world model as a matrix, per task and arm and over all tasks.

evaluating    a row per variant, a column per planner at evaluation: the same agents in all
              columns; those that planned in the simulator, too, have a row more
collecting    a row per family of variants, a column per planner while collecting: other agents each
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from policies.planner_names import SIMULATOR
from stages import statistics
from stages.result_types import Interval, LoopResult, PlannerCell, TaskResult


class Value(NamedTuple):
    """What a cell holds: an interquartile mean, its interval, and each seed's value."""

    iqm: float
    interval: Interval
    by_seed: Mapping[int, float]


Planners = dict[str, Value]


class Row(NamedTuple):
    """A row of the matrix: a variant, the world model that it plans in, and by task and arm who."""

    variant: str
    world_model: str | None
    values: dict[str, dict[str, Planners]]


def evaluating(variants: Mapping[str, LoopResult]) -> list[PlannerCell]:
    """The cells of evaluation; none where no variant was evaluated with a second planner."""

    def values(result: TaskResult, model: str | None) -> dict[str, Planners]:
        return {
            name: {
                planner.partition("@")[0]: Value(found.iqm, found.interval, found.by_seed)
                for planner, found in arm.planners.items()
                if found.model == model
            }
            for name, arm in result.arms.items()
        }

    rows = [
        Row(name, model or loop.world_model, {t: values(r, model) for t, r in loop.tasks.items()})
        for name, loop in variants.items()
        for model in (None, SIMULATOR)
    ]
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
        row = rows.setdefault(family, Row(family, loop.world_model, {}))
        for task, result in loop.tasks.items():
            for arm, reached in result.arms.items():
                if reached.iqm is not None:
                    finals = {s.seed: s.final for s in reached.seeds if s.final is not None}
                    planners = row.values.setdefault(task, {}).setdefault(arm, {})
                    planners[loop.collect] = Value(reached.iqm, reached.interval, finals)
    return _cells(variants, list(rows.values()))


def _cells(variants: Mapping[str, LoopResult], rows: Sequence[Row]) -> list[PlannerCell]:
    """A cell per task, arm, row and planner, then those over all tasks."""
    tasks = dict.fromkeys(task for row in rows for task in row.values)
    arms = [arm for row in rows for found in row.values.values() for arm in found.values()]
    if not any(len(planners) > 1 for planners in arms):
        return []
    cells = [
        _cell(task, arm, row, planner, value)
        for task in tasks
        for row in rows
        for arm, planners in row.values.get(task, {}).items()
        for planner, value in planners.items()
    ]
    return cells + _over_tasks(rows, {task: _bounds(variants, task) for task in tasks})


def _over_tasks(
    rows: Sequence[Row], bounds: Mapping[str, tuple[float, float]]
) -> list[PlannerCell]:
    """Cells over all tasks, on one scale; of what there is on every one of them."""
    if len(bounds) < 2:
        return []
    found = []
    for row in rows:
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
                found.append(_cell(None, arm, row, planner, cell))
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


def _cell(task: str | None, arm: str, row: Row, planner: str, value: Value) -> PlannerCell:
    return PlannerCell(
        task=task,
        arm=arm,
        variant=row.variant,
        world_model=row.world_model,
        planner=planner,
        iqm=value.iqm,
        interval=value.interval,
        runs=len(value.by_seed),
    )
