"""The results of one task: its arms, their comparisons and the 2 x 2 design."""

from collections.abc import Iterable, Sequence

import numpy as np

from stages import design, planner_results, scores, statistics
from stages.records import REFERENCES, SEEN, Loop, Training
from stages.result_types import (
    ArmResult,
    Comparison,
    CurvePoint,
    DesignResult,
    Effect,
    SeedResult,
    TaskResult,
)
from stages.settings import Arm
from tasks.contract import Metric

Finals = dict[str, dict[int, float]]  # arm -> seed -> final value


def task_result(loop: Loop, task: str) -> TaskResult:
    """One task: its arms, references, comparisons and 2 x 2 effects."""
    metric = metric_of(loop, task)
    arms = {name: arm_result(loop, task, name, arm, metric) for name, arm in loop.arms.items()}
    references = {}
    for name in REFERENCES:
        episodes = [row for job in loop.evaluations_of(task, name) for row in job.episodes]
        value = scores.value_of(episodes, metric)
        if value is not None:
            references[name] = value
    finals = {name: finals_of(arm) for name, arm in arms.items()}
    return TaskResult(
        metric=metric,
        arms=arms,
        references=references,
        comparisons=compare([finals], loop.arms),
        effects=effects([finals], loop.arms),
    )


def metric_of(loop: Loop, task: str) -> Metric:
    """The task's metric, from its episodes, or else from the task itself."""
    rows = [row for job in loop.evaluations if job.job.task == task for row in job.episodes]
    found = scores.metric_of(rows)
    if found:
        return found
    from tasks.contract import TaskError
    from tasks.registry import spec
    from tasks.settings import TaskOptions

    table = loop.study.get("tasks", {})
    options = {key: table[key] for key in TaskOptions.model_fields if key in table}
    try:
        return spec(task, TaskOptions(**options)).metric
    except (TaskError, ImportError, ValueError):  # not to be had on this machine
        return "return"


def arm_result(loop: Loop, task: str, name: str, arm: Arm, metric: Metric) -> ArmResult:
    """One arm on one task: its seeds, their interquartile mean and the curve over seeds."""
    transfers = {table.job.seed: table for table in loop.transfers_of(task, name)}
    evaluations = {table.job.seed: table for table in loop.evaluations_of(task, name)}
    seeds = []
    for seed in sorted({*transfers, *evaluations}):
        evaluation, transfer = evaluations.get(seed), transfers.get(seed)
        final = scores.value_of(evaluation.at("final"), metric) if evaluation else None
        done = transfer is not None and (transfer.job.finished or final is not None)
        seeds.append(
            SeedResult(
                seed=seed,
                zero_shot=scores.value_of(evaluation.at("start"), metric) if evaluation else None,
                final=final,
                area_under_curve=_area(transfer) if transfer and done else None,
            )
        )
    final = _estimate([row.final for row in seeds])
    area = _estimate([row.area_under_curve for row in seeds])
    episodes = [row for table in evaluations.values() for row in table.at("final")]
    return ArmResult(
        carry=list(arm.components),
        seeds=seeds,
        iqm=final.value if final else None,
        interval=final.interval if final else None,
        seen=planner_results.over_seeds({s: e.at(SEEN) for s, e in evaluations.items()}, metric),
        planners=planner_results.of_arm(
            list(evaluations.values()),
            loop.replanned_of(task, name),
            loop.planners_of(name),
            loop.planner_of,
            metric,
        ),
        area_under_curve=area.value if area else None,
        area_under_curve_interval=area.interval if area else None,
        env_steps=most(table.env_steps for table in transfers.values()),
        updates=most(table.updates for table in transfers.values()),
        episodes=len(episodes),
        curve=curve([table for table in transfers.values() if table.evaluations]),
        achievements=(scores.achievement_shares(episodes) or None) if metric == "score" else None,
        training_score=_training_score(transfers.values()) if metric == "score" else None,
    )


def _training_score(transfers: Iterable[Training]) -> float | None:
    """Crafter's score over all training episodes of each seed, as it is published; their mean."""
    found = [scores.value_of(table.episodes, "score") for table in transfers]
    known = [score for score in found if score is not None]
    return sum(known) / len(known) if known else None


def curve(transfers: Sequence[Training]) -> list[CurvePoint]:
    """The fine-tuning curve over seeds, whose k-th point is every seed's k-th evaluation.

    An evaluation that is due waits for the batch's step to end, and a step that begins episodes
    counts for less: so seeds reach a point some env steps apart, and it stands at their mean.
    """
    reached: dict[int, list[float]] = {}
    heights: dict[int, list[float]] = {}
    for table in transfers:
        for number, row in enumerate(table.evaluations):
            value = scores.finite(row.get("value"))
            if value is not None:
                reached.setdefault(number, []).append(row["env_steps"])
                heights.setdefault(number, []).append(value)
    found = []
    for number in sorted(heights):
        point = statistics.estimate([np.array(heights[number])], resamples=2000)
        found.append(
            CurvePoint(
                env_steps=round(float(np.mean(reached[number]))),
                iqm=point.value,
                interval=point.interval,
                seeds=len(heights[number]),
            )
        )
    return found


def points(transfer: Training) -> tuple[list[float], list[float]]:
    """Env steps and values of one seed's evaluations, those with a finite value, in order."""
    rows = [
        (row["env_steps"], value)
        for row in transfer.evaluations
        if (value := scores.finite(row.get("value"))) is not None
    ]
    rows.sort(key=lambda row: row[0])
    return [float(steps) for steps, _ in rows], [value for _, value in rows]


def compare(finals: Sequence[Finals], arms: dict[str, Arm]) -> list[Comparison]:
    """Probability of improvement for every pair of arms that every task has runs of.

    Args:
        finals: per task, arm -> seed -> final value.
    """
    found = []
    for better, worse in design.pairs(arms):
        strata = [
            [np.array(list(task.get(arm, {}).values())) for task in finals]
            for arm in (better, worse)
        ]
        if all(len(scores) for side in strata for scores in side):
            value = statistics.probability_of_improvement(strata[0], strata[1])
            found.append(
                Comparison(
                    better=better,
                    worse=worse,
                    probability_of_improvement=value.value,
                    interval=value.interval,
                )
            )
    return found


def effects(finals: Sequence[Finals], arms: dict[str, Arm]) -> DesignResult | None:
    """The 2 x 2 design over the seeds that have all four cells; None if there are none."""
    cells = design.cells(arms)
    if cells is None:
        return None
    names = (cells.origin, cells.model, cells.policy, cells.both)
    shared = [
        sorted(set.intersection(*(set(task.get(name, {})) for name in names))) for task in finals
    ]
    if not all(shared):
        return None
    strata = [
        [np.array([task[name][seed] for seed in seeds])
         for task, seeds in zip(finals, shared, strict=True)]
        for name in names
    ]  # fmt: skip
    origin, model, policy, both = strata
    found = statistics.paired_effects(origin, model, policy, both)

    def effect(name: str, value: statistics.Estimate) -> Effect:
        return Effect(
            value=value.value, interval=value.interval, by_seed=found.by_seed[name].tolist()
        )

    return DesignResult(
        origin=cells.origin,
        includes_encoder=cells.includes_encoder,
        seeds=[seed for seeds in shared for seed in seeds],
        model=effect("model", found.model),
        policy=effect("policy", found.policy),
        interaction=effect("interaction", found.interaction),
    )


def finals_of(arm: ArmResult) -> dict[int, float]:
    """The final value of each evaluated seed."""
    return {row.seed: row.final for row in arm.seeds if row.final is not None}


def _estimate(values: Sequence[float | None]) -> statistics.Estimate | None:
    known = [value for value in values if value is not None]
    return statistics.estimate([np.array(known)]) if known else None


def _area(transfer: Training) -> float | None:
    steps, heights = points(transfer)
    return statistics.area_under_curve(np.array(steps), np.array(heights))


def most(values: Iterable[int | None]) -> int | None:
    """The largest known number; None if none is known."""
    known = [value for value in values if value is not None]
    return max(known) if known else None
