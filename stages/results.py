"""From a run's records to `results.json`: every figure of the report, computed once.

Schema: `stages.result_types`, documented in docs/results-schema.md.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stages import planner_matrix, scores, statistics
from stages.records import PLANNED, Loop, Row, read
from stages.result_types import (
    Aggregate,
    AggregateArm,
    ExplorationResult,
    LoopResult,
    StudyResults,
    TaskResult,
    VariantComparison,
    VariantResults,
)
from stages.settings import Arm
from stages.task_results import compare, effects, finals_of, most, task_result

Results = StudyResults | VariantResults


def collect(root: Path) -> Results:
    """Compute the results of a run folder, however far it has come.

    Raises:
        TaskError: `root` is no run folder.
    """
    loops = read(root)
    results = {loop.variant: loop_results(loop) for loop in loops}
    if None in results:
        return StudyResults(study=loops[0].name, **dict(results[None]))
    variants = {str(name): result for name, result in results.items()}
    return VariantResults(
        study=loops[0].name,
        variants=variants,
        comparisons=compare_variants(variants),
        planning=planner_matrix.evaluating(variants),
        collecting=planner_matrix.collecting(variants),
    )


def write(results: Results, path: Path) -> None:
    """Write `results.json` atomically; a number that is not finite is an error, never written."""
    text = json.dumps(results.model_dump(mode="json"), indent=2, allow_nan=False)
    partial = path.with_suffix(".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, path)


def loop_results(loop: Loop) -> LoopResult:
    """The results of one study, or of one variant."""
    tasks = {task: task_result(loop, task) for task in loop.tasks}
    return LoopResult(
        tasks=tasks,
        aggregate=aggregate(tasks, loop.arms),
        exploration=exploration_result(loop),
        levels=loop.study.get("tasks", {}).get("levels"),
        world_model=loop.study.get("agent", {}).get("world_model"),
        collect=loop.study.get("planning", {}).get("collect"),
        missing=missing(loop),
    )


def aggregate(tasks: dict[str, TaskResult], arms: dict[str, Arm]) -> Aggregate | None:
    """All tasks on one scale; None below two tasks. An arm takes part if it ran on all of them."""
    if len(tasks) < 2:
        return None
    scale, text = normalisation(tasks)
    finals = [
        {
            name: {seed: scale(task, value) for seed, value in finals_of(arm).items()}
            for name, arm in result.arms.items()
        }
        for task, result in tasks.items()
    ]
    complete = {name: arm for name, arm in arms.items() if all(task.get(name) for task in finals)}
    if not complete:
        return None
    results = {}
    for name in complete:
        value = statistics.estimate([np.array(list(task[name].values())) for task in finals])
        results[name] = AggregateArm(iqm=value.value, interval=value.interval, runs=value.runs)
    return Aggregate(
        tasks=list(tasks),
        normalisation=text,
        arms=results,
        comparisons=compare(finals, complete),
        effects=effects(finals, complete),
    )


def normalisation(tasks: dict[str, TaskResult]) -> tuple[Callable[[str, float], float], str]:
    """A map (task, value) -> value on a scale that all tasks share, and what it is in words."""
    if all(result.metric == "success" for result in tasks.values()):
        return lambda _, value: value, "a value is a success rate"
    bounds = {}
    for task, result in tasks.items():
        finals = [value for arm in result.arms.values() for value in finals_of(arm).values()]
        low = result.references.get("random", min(finals, default=0.0))
        high = max(result.references.get("oracle", low), max(finals, default=low))
        if result.references.get("oracle", low) > low:
            high = result.references["oracle"]
        bounds[task] = (low, high if high > low else low + 1)

    def scale(task: str, value: float) -> float:
        low, high = bounds[task]
        return (value - low) / (high - low)

    return scale, "0 is the random policy, 1 the oracle or, without one, the task's best run"


def compare_variants(variants: dict[str, LoopResult]) -> list[VariantComparison]:
    """Every later variant against the first one, for each task and arm that both have."""
    found: list[VariantComparison] = []
    names = list(variants)
    for better in names[1:]:
        for task, result in variants[better].tasks.items():
            other = variants[names[0]].tasks.get(task)
            for arm, values in result.arms.items():
                ours = list(finals_of(values).values())
                theirs = (
                    list(finals_of(other.arms[arm]).values()) if other and arm in other.arms else []
                )
                if not ours or not theirs:
                    continue
                value = statistics.probability_of_improvement([np.array(ours)], [np.array(theirs)])
                found.append(
                    VariantComparison(
                        task=task,
                        arm=arm,
                        better=better,
                        worse=names[0],
                        probability_of_improvement=value.value,
                        interval=value.interval,
                    )
                )
    return found


def exploration_result(loop: Loop) -> ExplorationResult | None:
    """What stands behind the arms and what exploring learnt; None without an exploration."""
    if not loop.explorations:
        return None
    last = [table.health[-1] for table in loop.explorations if table.health]
    random = random_health(loop)
    return ExplorationResult(
        seeds=len(loop.explorations),
        env_steps=most(table.env_steps for table in loop.explorations),
        updates=most(table.updates for table in loop.explorations),
        coverage=_mean([row.get("coverage") for row in last]),
        random_coverage=_mean([row.get("coverage") for row in random]),
        moved=moved_shares(last),
        random_moved=moved_shares(random),
        model_error=_mean([row.get("model_error") for row in last]),
        model_error_baseline=_mean([row.get("model_error_baseline") for row in last]),
    )


def random_health(loop: Loop) -> list[Row]:
    """The random policy's health where the explorations have come to: a row, or none.

    A random policy is soon done, an exploration is not: they are compared at equal env steps.
    """
    if loop.random_exploration is None:
        return []
    reached = [table.health[-1]["env_steps"] for table in loop.explorations if table.health]
    rows = loop.random_exploration.health
    return [row for row in rows if row["env_steps"] <= min(reached, default=0)][-1:]


def moved_shares(rows: Sequence[Row]) -> dict[str, float]:
    """Mean over health rows of the share of episodes in which each object moved."""
    names = dict.fromkeys(name for row in rows for name in row.get("moved") or {})
    shares = {name: _mean([(row.get("moved") or {}).get(name) for row in rows]) for name in names}
    return {name: share for name, share in shares.items() if share is not None}


def missing(loop: Loop) -> list[str]:
    """What the study plans and the folder does not hold, a line each."""
    lines = []
    explored = {table.job.seed for table in loop.explorations if table.job.finished}
    if loop.study.get("explore", {}).get("steps", 1) and _needs_exploration(loop):
        tuned = {table.job.seed for table in loop.transfers}  # an exploration may be shared
        lines += _due("exploration", set(loop.seeds) - explored - tuned)
    for task in loop.tasks:
        for arm in loop.arms:
            tuned = {t.job.seed for t in loop.transfers_of(task, arm) if t.evaluations}
            judged = {t.job.seed for t in loop.evaluations_of(task, arm) if t.at("final")}
            finished = {t.job.seed for t in loop.transfers_of(task, arm) if t.job.finished}
            lines += _due(f"fine-tuning of {arm} on {task}", set(loop.seeds) - finished - judged)
            lines += _due(f"final evaluation of {arm} on {task}", (finished | tuned) - judged)
            for planner in loop.planners_of(arm)[1:]:
                tables = loop.replanned_of(task, arm)
                seeds = {t.job.seed for t in tables if _acted(t.at(PLANNED), planner)}
                what = f"evaluation of {arm} on {task} with planner {planner}"
                lines += _due(what, (finished | tuned) - seeds)
        if not any(table.episodes for table in loop.evaluations_of(task, "random")):
            lines.append(f"the random policy on {task}, as a reference")
    for job in (*(table.job for table in loop.explorations), *loop.jobs):
        if job.error and not job.finished:
            what = f"{job.stage} of {job.arm} on {job.task}" if job.arm else job.stage
            lines.append(f"{what}, seed {job.seed}, failed: {job.error}")
    return lines


def _needs_exploration(loop: Loop) -> bool:
    return any(
        arm.carry or arm.prior_steps or arm.replay_share or arm.relabelled_updates
        for arm in loop.arms.values()
    )


def _acted(rows: Sequence[Row], planner: str) -> bool:
    return any(row.get("planner") == planner for row in rows)


def _due(what: str, seeds: set[int]) -> list[str]:
    if not seeds:
        return []
    names = ", ".join(map(str, sorted(seeds)))
    return [f"{what}: {'seed' if len(seeds) == 1 else 'seeds'} {names}"]


def _mean(values: Sequence[object]) -> float | None:
    known = [value for value in map(scores.finite, values) if value is not None]
    return sum(known) / len(known) if known else None
