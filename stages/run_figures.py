"""Figures about the run: Crafter's achievements, and where the time went."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from stages import formats
from stages.figures import WIDTH, Figure
from stages.palette import Style
from stages.records import Loop, Row, Training
from stages.result_types import TaskResult
from stages.scores import finite
from stages.svg import Plot

PARTS = {
    "update": "learning",
    "policy": "acting",
    "simulator": "simulating",
    "replay": "replay",
    "evaluation": "evaluating",
    "checkpoint": "checkpoints",
    "compile": "compiling",
    "other": "other",
}


def achievements(task: str, result: TaskResult, styles: Mapping[str, Style]) -> Figure | None:
    """Share of final episodes that unlock each achievement, a marker per arm."""
    arms = {name: arm for name, arm in result.arms.items() if arm.achievements}
    if not arms:
        return None
    shares = {name: arm.achievements or {} for name, arm in arms.items()}
    names = list(next(iter(shares.values())))
    names.sort(key=lambda name: -max(share.get(name, 0.0) for share in shares.values()))
    plot = Plot((WIDTH, 21 * len(names) + 66), (0, 1), (len(names), 0), (126, 14, 26, 40))
    plot.x_grid("share of final episodes", lambda share: f"{100 * share:.0f} %")
    for index, name in enumerate(names):
        row = index + 0.5
        plot.text(plot.x.start - 10, plot.y(row) + 4, name.replace("_", " "), "tick", "end")
        values = [share.get(name, 0.0) for share in shares.values()]
        plot.bar(min(values), max(values), row, 1.5, "--line", "solid")
        for arm, share in shares.items():
            value = share.get(name, 0.0)
            look = styles[arm]
            tip = f"{name.replace('_', ' ')}, {arm}: {100 * value:.0f} %"
            plot.mark((value, row), look.shape, look.colour, "mark", 4.2, tip)
    said = [
        f"{arm} unlocks {sum(value > 0 for value in share.values())} of {len(names)}"
        for arm, share in shares.items()
    ]
    alt = f"Achievements on {task}, share of final episodes that unlock each: {'; '.join(said)}."
    episodes = max(arm.episodes for arm in arms.values())
    seeds = max(len(arm.seeds) for arm in arms.values())
    steps = max((arm.env_steps or 0 for arm in arms.values()), default=0)
    updates = max((arm.updates or 0 for arm in arms.values()), default=0)
    caption = (
        f"{formats.plural(seeds, 'seed')} · {episodes} episodes per arm · "
        f"{formats.steps(steps)} env steps · {formats.steps(updates)} updates"
    )
    return Figure("Achievements", plot.render(alt), caption)


def time_spent(loops: Sequence[Loop]) -> Figure | None:
    """Seconds by part for each stage, all jobs added up."""
    bars: dict[str, Row] = {}
    counted: set[Path] = set()  # variants may share an exploration
    tables: list[Training] = []
    for loop in loops:
        prefix = f"{loop.variant}: " if loop.variant else ""
        for name, stage in (("exploring", loop.explorations), ("fine-tuning", loop.transfers)):
            own = [table for table in stage if table.job.folder.resolve() not in counted]
            counted |= {table.job.folder.resolve() for table in own}
            tables += own
            spent = _sum(own)
            if spent:
                jobs = formats.plural(sum(table.time is not None for table in own), "job")
                bars[f"{prefix}{name}, {jobs}"] = spent
    if not bars:
        return None
    longest = max(sum(spent.values()) for spent in bars.values())
    minutes = longest >= 90
    unit = 60.0 if minutes else 1.0
    plot = Plot((WIDTH, 48 * len(bars) + 66), (0, longest / unit), (len(bars), 0), (14, 14, 26, 40))
    plot.x_grid("minutes, all jobs" if minutes else "seconds, all jobs", formats.compact)
    for index, (name, spent) in enumerate(bars.items()):
        plot.text(plot.x.start, plot.y(index + 0.3), name, "row")
        plot.text(
            plot.x.end, plot.y(index + 0.3), formats.duration(sum(spent.values())), "value", "end"
        )
        start = 0.0
        for number, part in enumerate(PARTS, 1):
            seconds = spent.get(part, 0.0)
            if seconds:
                end = start + seconds / unit
                plot.bar(start, end, index + 0.66, 16, f"--part-{number}", "solid square")
                start = end
    said = [
        f"{name}: {formats.duration(sum(spent.values()))}, of which "
        + ", ".join(
            f"{PARTS[part]} {100 * seconds / sum(spent.values()):.0f} %"
            for part, seconds in sorted(spent.items(), key=lambda item: -item[1])
        )
        for name, spent in bars.items()
    ]
    steps = sum(table.env_steps or 0 for table in tables)
    updates = sum(table.updates or 0 for table in tables)
    seeds = len({seed for loop in loops for seed in loop.seeds})
    caption = (
        f"{formats.plural(seeds, 'seed')} · {formats.steps(steps)} env steps · "
        f"{formats.steps(updates)} updates in all"
    )
    return Figure(
        "Where the time went", plot.render("Where the time went. " + ". ".join(said)), caption
    )


def _sum(tables: Sequence[Training]) -> dict[str, float]:
    spent: dict[str, float] = {}
    for table in tables:
        for part in PARTS:
            seconds = finite((table.time or {}).get(part))
            if seconds and seconds > 0:
                spent[part] = spent.get(part, 0.0) + seconds
    return spent
