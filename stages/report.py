"""The report: one folder that opens in a browser without a network.

    DIR/report/index.html     the page; figures inside, no script or font from elsewhere
    DIR/report/results.json   the same figures (docs/results-schema.md)
    DIR/report/figures/       the fine-tuning curves as pictures of their own
    DIR/report/videos/        one film per arm and task

Works on a run that is not finished, and says what is missing.
"""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
from markupsafe import Markup, escape

import assets
from stages import (
    answers,
    curve_pictures,
    exploration_figures,
    figures,
    formats,
    level_figures,
    palette,
    planner_figures,
    planning_curves,
    report_videos,
    run_figures,
)
from stages.answers import Answer
from stages.design import baseline, cells
from stages.figures import Figure
from stages.records import Loop, read
from stages.report_videos import Film
from stages.result_types import Comparison, DesignResult, LoopResult, TaskResult, VariantResults
from stages.results import Results, collect, normalisation, write
from stages.svg import shape_path

TEMPLATE = "template.html"


@dataclass(frozen=True)
class TaskView:
    """Everything the page shows about one task."""

    name: str
    result: TaskResult
    answer: Answer
    curves: Figure | None
    finals: Figure | None
    effects: Figure | None
    achievements: Figure | None
    levels: Figure | None
    planners: list[Figure]
    films: list[Film]


@dataclass(frozen=True)
class LoopView:
    """Everything the page shows about one study, or one variant of it."""

    variant: str | None
    loop: Loop
    results: LoopResult
    answer: Answer
    baseline: str | None
    tasks: list[TaskView]
    hero: Figure | None
    overall_effects: Figure | None
    profile: Figure | None
    health: list[Figure]
    open_loop: list[Figure]
    films: list[Film]
    cells: Any
    fewest: int


def run(root: Path) -> Path:
    """Write the report of a run folder and return its `index.html`.

    The folder is built beside the old report and then takes its place.

    Raises:
        TaskError: `root` is no run folder.
    """
    loops, results = read(root), collect(root)
    partial, final = root / "report.partial", root / "report"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(results, partial / "results.json")
    (partial / "index.html").write_text(page(loops, results, partial), encoding="utf-8")
    write_pictures(loops, results, partial / "figures")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    return final / "index.html"


def page(loops: Sequence[Loop], results: Results, report: Path) -> str:
    """The page as HTML; films are copied to `report`."""
    styles = palette.styles(arm for loop in loops for arm in loop.arms)
    views = [loop_view(loop, part(results, loop), styles, report) for loop in loops]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(assets.__file__).parent / "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        measured=formats.measured, steps=formats.steps, number=formats.number,
        short=formats.short_task, plural=formats.plural, listing=formats.listing,
        safe_svg=Markup, unbroken=unbroken,
    )  # fmt: skip
    question, headline, planning = asked(loops, results, views)
    return environment.get_template(TEMPLATE).render(
        study=results.study,
        headline=headline,
        question=question,
        planning=planning,
        views=views,
        variants=variant_figures(results, loops, styles),
        variant_comparisons=getattr(results, "comparisons", []),
        matrices=matrices(results, "planning", "Planner by world model"),
        collecting=matrices(results, "collecting", "Planner while collecting by world model"),
        best=planner_figures.best,
        amounts=planning_curves.curves(results),
        cut=cut_short,
        time=run_figures.time_spent(loops),
        parts=run_figures.PARTS,
        runs=runs(loops),
        facts=facts(loops, views),
        marker=lambda arm: marker(styles, arm),
        over=over,
        table_digits=table_digits,
        separated=answers.separated,
    )


def write_pictures(loops: Sequence[Loop], results: Results, folder: Path) -> None:
    """`curves.svg` of a study, or `curves-VARIANT.svg` of each of its variants."""
    styles = palette.styles(arm for loop in loops for arm in loop.arms)
    for loop in loops:
        picture = curve_pictures.curves(part(results, loop), styles)
        if picture is not None:
            folder.mkdir(exist_ok=True)
            name = f"curves-{loop.variant}.svg" if loop.variant else "curves.svg"
            (folder / name).write_text(picture, encoding="utf-8")


def asked(
    loops: Sequence[Loop], results: Results, views: Sequence[LoopView]
) -> tuple[str, Answer, Answer | None]:
    """The study's question, its answer, and what is to be said of planning beside it."""
    planning = answers.planning_answer({view.variant: view.results for view in views})
    arms = [arm for loop in loops for arm in loop.arms.values()]
    question = answers.question(arms, planning is not None)
    if planning is not None and question == answers.WHEN_TO_PLAN:
        return question, planning, None
    if isinstance(results, VariantResults):
        return question, answers.variants_answer(results, loops[0].arms), planning
    return question, views[0].answer, planning


def loop_view(
    loop: Loop, results: LoopResult, styles: dict[str, palette.Style], report: Path
) -> LoopView:
    """Compute what the page shows about one loop."""
    tasks = [task_view(loop, name, results, styles, report) for name in results.tasks]
    behind = [arm for task in results.tasks.values() for arm in task.arms.values()]
    whole = results.aggregate
    counts = [len([s for s in arm.seeds if s.final is not None]) for arm in behind]
    explored = next((t for t in loop.explorations if exploration_figures.open_loop(t)), None)
    return LoopView(
        variant=loop.variant,
        loop=loop,
        results=results,
        answer=answers.answer(results, loop.arms),
        baseline=baseline(loop.arms),
        tasks=tasks,
        hero=figures.overall(results, styles) or (tasks[0].finals if len(tasks) == 1 else None),
        overall_effects=figures.effects("all tasks", whole.effects, None, behind)
        if whole and whole.effects
        else None,
        profile=profile(results, styles),
        health=exploration_figures.health(loop),
        open_loop=exploration_figures.open_loop(explored) if explored else [],
        films=report_videos.of_exploration(loop, report),
        cells=cells(loop.arms),
        fewest=min((count for count in counts if count), default=0),
    )


def task_view(
    loop: Loop, name: str, results: LoopResult, styles: dict[str, palette.Style], report: Path
) -> TaskView:
    """Compute what the page shows about one task."""
    result = results.tasks[name]
    design: DesignResult | None = result.effects
    return TaskView(
        name=name,
        result=result,
        answer=answers.task_answer(results, name, loop.arms),
        curves=figures.curves(name, result, styles),
        finals=figures.finals(name, result, styles),
        effects=figures.effects(
            formats.short_task(name), design, result.metric, list(result.arms.values())
        )
        if design
        else None,
        achievements=run_figures.achievements(name, result, styles),
        levels=level_figures.seen_and_unseen(name, result, styles, results.levels),
        planners=planner_figures.by_planner(name, result, styles),
        films=report_videos.of_task(loop, name, result, report),
    )


def profile(results: LoopResult, styles: dict[str, palette.Style]) -> Figure | None:
    """The performance profile over all tasks, each arm over the tasks it finished."""
    several = len(results.tasks) > 1
    scale, _ = normalisation(results.tasks) if several else (lambda _, value: value, "")
    values: dict[str, list[np.ndarray]] = {}
    for task, result in results.tasks.items():
        for name, arm in result.arms.items():
            finals = [scale(task, row.final) for row in arm.seeds if row.final is not None]
            if finals:
                values.setdefault(name, []).append(np.array(finals))
    metric = next((result.metric for result in results.tasks.values()), "return")
    unit = "normalised value" if several else formats.UNITS[metric]
    behind = [arm for result in results.tasks.values() for arm in result.arms.values()]
    return figures.profile(values, styles, unit, behind)


def variant_figures(
    results: Results, loops: Sequence[Loop], styles: dict[str, palette.Style]
) -> list[tuple[str, list[Figure]]]:
    """Per task a figure for each arm that two variants or more have finished."""
    if not isinstance(results, VariantResults):
        return []
    tasks = dict.fromkeys(task for loop in loops for task in loop.tasks)
    found = []
    for task in tasks:
        pictures = [figures.variants(task, arm, results.variants, styles[arm]) for arm in styles]
        for arm in styles:
            pictures += level_figures.generalisation(task, arm, results.variants)
        if any(pictures):
            found.append((task, [picture for picture in pictures if picture]))
    return found


def matrices(
    results: Results, which: Literal["planning", "collecting"], called: str
) -> list[planner_figures.Matrix]:
    """Planner x world model, of evaluations or of collecting; none without variants."""
    if not isinstance(results, VariantResults):
        return []
    return planner_figures.matrices(results, getattr(results, which), called)


def facts(loops: Sequence[Loop], views: Sequence[LoopView]) -> list[tuple[str, str]]:
    """What stands behind the answer, for the first screen."""
    first = loops[0]
    arms = [arm for view in views for task in view.tasks for arm in task.result.arms.values()]
    explored = [view.results.exploration for view in views if view.results.exploration]
    agents = [loop.study.get("agent", {}) for loop in loops]
    agent = [
        ", ".join(dict.fromkeys(str(agent[key]) for agent in agents if key in agent))
        for key in ("world_model", "curiosity")
    ]
    found = [
        ("seeds per arm", str(max((len(arm.seeds) for arm in arms), default=0))),
        ("tasks", str(len(first.tasks))),
        ("env steps explored", formats.steps(max((e.env_steps or 0 for e in explored), default=0))),
        (
            "env steps fine-tuned",
            formats.steps(max((arm.env_steps or 0 for arm in arms), default=0)),
        ),
        ("updates fine-tuned", formats.steps(max((arm.updates or 0 for arm in arms), default=0))),
        ("agent", " · ".join(filter(None, agent))),
        ("device", str(first.run.get("device", ""))),
    ]
    return [(name, value) for name, value in found if value]


def cut_short(loop: Loop, task: str) -> str | None:
    """Of the value at an episode's beginning, the share that lies beyond the time limit."""
    discount = loop.study.get("behaviour", {}).get("discount")
    lengths = [
        row["length"]
        for table in loop.evaluations
        if table.job.task == task
        for row in table.at("final")
        if isinstance(row.get("length"), int)
    ]
    if not isinstance(discount, float) or not lengths:
        return None
    return f"{100 * discount ** max(lengths):.0f} %"


def unbroken(text: str) -> Markup:
    """A sentence whose intervals stay on one line."""
    return Markup(re.sub(r"(\S+ \[[^\]]*\])", r"<span class=nb>\1</span>", str(escape(text))))


def table_digits(result: TaskResult) -> int:
    """Decimals for a task's table, so that its columns read as one."""
    parts = [(arm.iqm, arm.interval) for arm in result.arms.values()]
    return min(4, formats.shared_decimals(result.metric, *parts) + 1)


def part(results: Results, loop: Loop) -> LoopResult:
    """The results that belong to a loop."""
    if isinstance(results, VariantResults):
        return results.variants[str(loop.variant)]
    return results


def runs(loops: Sequence[Loop]) -> list[tuple[str | None, dict[str, Any]]]:
    """What is known about each run; variants made under the same conditions are told once."""
    found: list[tuple[str | None, dict[str, Any]]] = []
    for loop in loops:
        run = {key: _shown(key, value) for key, value in loop.run.items()}
        same = [{**other, "started": run.get("started")} for _, other in found]
        if run and run not in same:
            found.append((loop.variant, run))
    return found if len(found) > 1 else [(None, run) for _, run in found]


def _shown(key: str, value: Any) -> Any:
    if key in ("started", "resumed") and isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return value


def over(result: TaskResult, arm: str, worse: str | None) -> Comparison | None:
    """How an arm compares with the baseline."""
    pairs = {(pair.better, pair.worse): pair for pair in result.comparisons}
    return pairs.get((arm, str(worse)))


def marker(styles: dict[str, palette.Style], arm: str) -> Markup:
    """An arm's marker in its colour, to stand before its name."""
    look = styles.get(arm)
    if look is None:
        return Markup("")
    return Markup(
        f'<svg class="chip" viewBox="0 0 14 14" aria-hidden="true"><path class="mark" '
        f'd="{shape_path(look.shape, 7, 7, 5)}" style="--c:var({look.colour})"/></svg>'
    )
