"""Figures about how much is planned: values over simulations (`mcts`) or samples (`cem`, `mppi`).

A line per variant for each arm, or per arm where there are no variants, and one more for planning
in the simulator with the same agents. The policy alone stands at 0. On unseen levels, and on those
of the training where there are some.
"""

import math
from collections.abc import Iterator, Mapping

from policies.planner_names import SIMULATOR, UNITS
from stages import line_figures
from stages.figures import Figure
from stages.line_figures import Axis, Lines, Point
from stages.planner_figures import label_of
from stages.result_types import ArmResult, PlannerResult, StudyResults, TaskResult, VariantResults
from tasks.contract import Metric

PLACES = {"unseen": "unseen levels", "seen": "levels of the training"}


def curves(results: StudyResults | VariantResults) -> list[Figure]:
    """Figures of every planner that acted in two sizes or more, beside the policy alone."""
    found = []
    for title, metric, arms in _groups(results):
        for kind, noun in UNITS.items():
            lines, behind = {}, []
            for (name, own), arm in arms.items():
                for model in (None, SIMULATOR):
                    line = _sized(arm, kind, model)
                    if len(line.keys() - {0}) > 1:
                        lines[label_of(name, model or own)] = line
                        behind.append(arm)
            if lines:
                found += _figures(title, metric, kind, noun, lines, behind)
    return found


def _groups(
    results: StudyResults | VariantResults,
) -> Iterator[tuple[str, Metric, dict[tuple[str, str | None], ArmResult]]]:
    """What belongs in one figure: its title, its metric, and results by the name of the variant or
    arm and, of variants, the world model."""
    if isinstance(results, StudyResults):
        for task, result in results.tasks.items():
            yield task, result.metric, {(name, None): arm for name, arm in result.arms.items()}
        return
    for task in dict.fromkeys(task for loop in results.variants.values() for task in loop.tasks):
        have: dict[tuple[str, str | None], TaskResult] = {
            (name, loop.world_model): loop.tasks[task]
            for name, loop in results.variants.items()
            if task in loop.tasks
        }
        metric = next(iter(have.values())).metric
        for arm in dict.fromkeys(arm for result in have.values() for arm in result.arms):
            lines = {key: found.arms[arm] for key, found in have.items() if arm in found.arms}
            yield f"{task}, {arm}", metric, lines


def _sized(arm: ArmResult, kind: str, model: str | None) -> dict[int, PlannerResult]:
    """An arm's results by how much one kind of planner planned in a model (None: the agent's own),
    the least first."""
    found = {
        planner.size: planner
        for planner in arm.planners.values()
        if planner.size is not None
        and (planner.kind == "none" or (planner.kind, planner.model) == (kind, model))
    }
    return dict(sorted(found.items()))


def _figures(
    title: str,
    metric: Metric,
    kind: str,
    noun: str,
    sized: Mapping[str, Mapping[int, PlannerResult]],
    behind: list[ArmResult],
) -> list[Figure]:
    label = f"{noun} of {kind} at evaluation, 0 the policy alone"
    axis = Axis(noun, label, lambda n: math.log2(1 + n))
    drawn: dict[str, Lines] = {
        "unseen": {
            name: [Point(size, found.iqm, found.interval) for size, found in line.items()]
            for name, line in sized.items()
        },
        "seen": {
            name: [
                Point(size, found.seen.iqm, found.seen.interval)
                for size, found in line.items()
                if found.seen is not None
            ]
            for name, line in sized.items()
        },
    }
    drawn["seen"] = {name: points for name, points in drawn["seen"].items() if points}
    limits = line_figures.limits_of(drawn.values(), metric)
    found = []
    for place, lines in drawn.items():
        if lines:
            where = f" on {PLACES[place]}" if drawn["seen"] else ""
            head = f"{title}: over {noun} of {kind}{where}"
            said = f"Values by how many {noun} {kind} has{where}, {title}"
            found.append(line_figures.over(head, said, lines, axis, metric, limits, behind))
    return found
