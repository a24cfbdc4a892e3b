"""Figures about who plans: planner by planner at evaluation, what was expected, and matrices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages import formats
from stages.figures import WIDTH, Figure, Row, caption_of, rows_plot
from stages.palette import Style
from stages.result_types import ArmResult, PlannerCell, PlannerResult, TaskResult, VariantResults
from stages.svg import Plot
from tasks.contract import Metric

COLOUR = "--arm-model"
LABEL, CELL = 20, 44  # px: the line above a row of the matrix, and the height of its cells


@dataclass(frozen=True)
class Matrix:
    """Planner x variant for one arm on one task (None: over all tasks): a picture and a table."""

    title: str
    metric: Metric | None
    planners: list[str]
    rows: dict[str, dict[str, PlannerCell]]  # by the variant's label, then by planner
    digits: int
    figure: Figure


def by_planner(task: str, result: TaskResult, looks: Mapping[str, Style]) -> list[Figure]:
    """Per arm that more than one planner acted for: values by planner, and what was expected."""
    found: list[Figure] = []
    for name, arm in result.arms.items():
        if len(arm.planners) > 1:
            found.append(_values(task, name, arm, result.metric, looks[name]))
            foreseen = _foresight(task, name, arm, looks[name])
            found += [foreseen] if foreseen else []
    return found


def _values(task: str, name: str, arm: ArmResult, metric: Metric, look: Style) -> Figure:
    factor = formats.scale(metric)
    rows, said = [], []
    for planner, result in arm.planners.items():
        scaled = result.interval and (factor * result.interval[0], factor * result.interval[1])
        dots = [factor * value for value in result.by_seed.values()]
        tips = [f"seed {seed}" for seed in result.by_seed]
        rows.append(Row(planner, look, factor * result.iqm, scaled, dots, tips))
        said.append(f"{planner} {formats.measured(result.iqm, result.interval, metric)}")
    plot = rows_plot(rows, formats.unit(metric), {})
    alt = f"The same final agents of {name} on {task} by planner: {'; '.join(said)}."
    each = max(found.episodes // len(found.by_seed) for found in arm.planners.values())
    caption = caption_of([arm], f"each dot is a seed over the same {each} episodes")
    return Figure(f"Planner by planner: {name}", plot.render(alt), caption)


def _foresight(task: str, name: str, arm: ArmResult, look: Style) -> Figure | None:
    """Expected less achieved, by planner."""
    told = {p: r.foresight for p, r in arm.planners.items() if r.foresight is not None}
    if not told:
        return None
    rows = [
        Row(
            planner,
            look,
            found.excess,
            found.interval,
            list(found.by_seed.values()),
            [f"seed {seed}" for seed in found.by_seed],
        )
        for planner, found in told.items()
    ]
    said = [
        f"{planner} expected {formats.number(found.expected)}, got "
        f"{formats.number(found.achieved)}, "
        f"{formats.measured(found.excess, found.interval, signed=True)} too much"
        for planner, found in told.items()
    ]
    plot = rows_plot(rows, "expected − achieved, discounted return", {}, signed=True)
    alt = f"Return expected at the first observation less what came, {name} on {task}: "
    caption = caption_of([arm], "right of 0 is overestimation")
    return Figure(f"Expected − achieved: {name}", plot.render(f"{alt}{'; '.join(said)}."), caption)


def matrices(results: VariantResults, cells: Sequence[PlannerCell], called: str) -> list[Matrix]:
    """A matrix per task and arm, and per arm over all tasks, where there is something to cross.

    Args:
        cells: `results.planning` or `results.collecting`.
        called: what alternative texts call it.
    """
    groups: dict[tuple[str | None, str], list[PlannerCell]] = {}
    for cell in cells:
        groups.setdefault((cell.task, cell.arm), []).append(cell)
    found = [_matrix(results, *group, within, called) for group, within in groups.items()]
    return [matrix for matrix in found if len(matrix.rows) > 1 and len(matrix.planners) > 1]


def _matrix(
    results: VariantResults, task: str | None, arm: str, cells: Sequence[PlannerCell], called: str
) -> Matrix:
    planners = list(dict.fromkeys(cell.planner for cell in cells))
    rows: dict[str, dict[str, PlannerCell]] = {}
    for cell in cells:
        rows.setdefault(label_of(cell.variant, cell.world_model), {})[cell.planner] = cell
    metric = _metric(results, task)
    digits = formats.shared_decimals(metric, *((cell.iqm, cell.interval) for cell in cells))
    digits = min(digits, 2) if task is None else digits
    title = f"{task or 'All tasks together'}, {arm}"
    behind = [
        found.arms[arm]
        for result in results.variants.values()
        for name, found in result.tasks.items()
        if arm in found.arms and task in (None, name)
    ]
    scale = (
        "each cell an IQM over seeds" if task else "0 is the random policy, 1 the oracle or best"
    )
    caption = caption_of(behind, f"{scale} · framed: the best of its row")
    picture = _picture(f"{called}, {title}", metric, planners, rows, digits)
    return Matrix(title, metric, planners, rows, digits, Figure(title, picture, caption))


def label_of(variant: str, world_model: str | None) -> str:
    """A variant with the world model that it has, where its name does not say that."""
    named = world_model is None or world_model == variant
    return variant if named else f"{variant} ({world_model})"


def _picture(
    said: str,
    metric: Metric | None,
    planners: Sequence[str],
    rows: Mapping[str, Mapping[str, PlannerCell]],
    digits: int,
) -> str:
    """Cells shaded by their values, with their numbers; the best of a row is framed. What is `said`
    comes before the numbers of the alternative text."""
    values = [cell.iqm for row in rows.values() for cell in row.values()]
    low, span = min(values), (max(values) - min(values)) or 1.0
    height = 24 + len(rows) * (LABEL + CELL + 6)
    plot = Plot((WIDTH, height), (0, 1), (0, 1))
    wide = WIDTH / len(planners)
    for column, planner in enumerate(planners):
        plot.text((column + 0.5) * wide, 14, planner, "tick", "middle")
    told = []
    for index, (label, row) in enumerate(rows.items()):
        top = 22 + index * (LABEL + CELL + 6)
        plot.text(2, top + 14, label, "row")
        first = best(row)
        for column, planner in enumerate(planners):
            if (cell := row.get(planner)) is None:
                continue
            at = (column * wide + 2, top + LABEL, wide - 4, CELL)
            shade = 0.08 + 0.42 * (cell.iqm - low) / span
            plot.cell(at, COLOUR, shade, framed=planner == first)
            shown, _, bounds = formats.measured(
                cell.iqm, cell.interval, metric, digits=digits
            ).partition(" [")
            middle = (column + 0.5) * wide
            plot.text(middle, top + LABEL + (20 if bounds else 27), shown, "number", "middle")
            if bounds:
                plot.text(middle, top + LABEL + 36, f"[{bounds}", "bounds", "middle")
        numbers = [
            f"{planner} {formats.measured(cell.iqm, cell.interval, metric, digits=digits)}"
            for planner, cell in row.items()
        ]
        told.append(f"{label}: {', '.join(numbers)}, best {first}")
    return plot.render(f"{said}: {'; '.join(told)}.")


def best(row: Mapping[str, PlannerCell] | Mapping[str, PlannerResult]) -> str:
    """The planner with the largest value of a row, shown to be apart from the others or not."""
    return max(row, key=lambda planner: row[planner].iqm)


def _metric(results: VariantResults, task: str | None) -> Metric | None:
    """The metric of a task; None, a plain number, for all tasks together."""
    if task is None:
        return None
    return next(r.tasks[task].metric for r in results.variants.values() if task in r.tasks)
