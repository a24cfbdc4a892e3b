"""Pictures of what a sampling planner saw: a page of plots beside a film, a strip below its frames.

returns    what the candidates of each step were foreseen to bring, what the chosen plan was, and
           what came (the discounted rewards from there on)
rewards, observation    a line that came, and from every few steps what the plan then foresaw
paths      where the suite knows places: the way that was gone, and the ways that were foreseen
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import assets
from stages import formats
from stages.figures import INK
from stages.plans import Plans
from stages.svg import Plot, extent, standalone
from tasks import registry
from tasks.settings import TaskOptions

CANDIDATES, CHOSEN = "--arm-model", "--arm-policy"
WIDE, HIGH, NUMBERS = 720, 150, 5  # px of the page and of a small panel; numbers shown of a vector
STRIP = 48  # px
DARK, FAINT, BRIGHT, WHITE = (19, 21, 25), (102, 172, 245), (255, 154, 77), (235, 233, 227)

Paths = Mapping[str, tuple[np.ndarray, np.ndarray, list[np.ndarray]]]


def places_of(plans: Plans, task: str, options: TaskOptions) -> Paths:
    """Where things in the plane went [T + 1, 2], where plans foresaw them [T, H, 2], and candidates
    of some steps [n, H, 2]; empty where the suite knows no places or nothing was foreseen."""
    places = registry.extras(task, options).places
    if places is None or not plans.foreseen:
        return {}

    def of(vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        lead = next(iter(vectors.values())).shape[:-1]
        flat = places({name: x.reshape(-1, x.shape[-1]) for name, x in vectors.items()})
        return {name: x.reshape(*lead, -1) for name, x in flat.items() if x.shape[-1] == 2}

    came, foreseen = of(plans.observed), of(plans.foreseen)
    fans = [of(fan.foreseen) for fan in plans.fans]
    return {name: (came[name], foreseen[name], [fan[name] for fan in fans]) for name in came}


def plan_picture(plans: Plans, paths: Paths) -> str:
    """The page as an SVG file of its own."""
    numbers = _liveliest(plans)
    small = 1 + len(numbers)
    rows = -(-small // 2)
    top = 250
    height = top + rows * HIGH + (330 if paths else 0) + 40
    parts: list[str] = []
    _returns(plans, (WIDE, height), parts)
    steps = len(plans.paid)
    stride = max(1, plans.rewards.shape[1], steps // 24)
    panels = [("reward of a step", plans.paid, plans.rewards, 1)]
    panels += [
        (f"{name}, number {dim}", plans.observed[name][:, dim], plans.foreseen[name][..., dim], 0)
        for name, dim in numbers
    ]
    for index, (label, came, foreseen, later) in enumerate(panels):
        column, row = index % 2, index // 2
        above = top + row * HIGH
        margins = (
            42 + column * (WIDE // 2),
            14 + (1 - column) * (WIDE // 2),
            above + 26,
            height - above - HIGH + 16,
        )
        _ahead(label, came, foreseen, later, stride, (WIDE, height), margins, parts)
    if paths:
        _paths(plans, paths, stride, (WIDE, height), top + rows * HIGH, parts)
    page = Plot((WIDE, height), (0, 1), (0, 1), parts=parts)
    key = "blue: candidates, orange: the plan that was chosen, grey: what came"
    page.text(8, height - 10, f"{key} · agent steps from left to right", "label")
    style = (Path(assets.__file__).parent / "report" / "plot.css").read_text(encoding="utf-8")
    return standalone(page, _said(plans, paths), style)


def _returns(plans: Plans, size: tuple[int, int], parts: list[str]) -> None:
    """Bands of the candidates' returns over the episode, the chosen plan's, and what came."""
    low, lower, upper, high = np.percentile(plans.returns, [0, 25, 75, 100], axis=1)
    heights = [*low, *high, *plans.expected, *(plans.came if plans.comparable else ())]
    steps = len(plans.paid)
    margins = (42, 14, 34, size[1] - 210)
    plot = Plot(size, (0, max(steps - 1, 1)), extent(heights, zero=False), margins, parts)
    plot.y_axis("return foreseen of the candidates", formats.compact)
    plot.x_axis("", formats.compact, 10)
    for under, over in ((low, high), (lower, upper)):
        plot.band(list(enumerate(under.tolist())), list(enumerate(over.tolist())), CANDIDATES)
    if plans.comparable:
        plot.line(list(enumerate(plans.came.tolist())), INK, "truth")
    plot.line(list(enumerate(plans.expected.tolist())), CHOSEN)


def _ahead(
    label: str,
    came: np.ndarray,
    foreseen: np.ndarray,
    later: int,
    stride: int,
    size: tuple[int, int],
    margins: tuple[int, int, int, int],
    parts: list[str],
) -> None:
    """What came [T] or [T + 1], of which the first is of step `later`, and what was foreseen
    [T, H] from every `stride`-th step."""
    shown = foreseen[::stride]
    limits = extent([*came.tolist(), *shown.ravel().tolist()], zero=False)
    plot = Plot(size, (0, max(len(foreseen), 1)), limits, margins, parts)
    plot.y_axis("", formats.compact, 3)
    plot.text(plot.x.start, plot.y.end - 8, label, "label")
    plot.line([(later + i, y) for i, y in enumerate(came.tolist())], INK, "truth")
    for index, line in enumerate(shown):
        start = index * stride
        known = line[: len(foreseen) - start].tolist()  # no plan knows when an episode ends
        points = [(start + 1 + ahead, y) for ahead, y in enumerate(known)]
        if not later:  # an observation is known where its plan begins
            points = [(start, float(came[start])), *points]
        plot.line(points, CHOSEN)
        if len(points) == 1:
            plot.mark(points[0], "circle", CHOSEN, "mark", 2.4)


def _paths(
    plans: Plans, paths: Paths, stride: int, size: tuple[int, int], top: int, parts: list[str]
) -> None:
    """The plane, a panel for each thing in it, as wide as high."""
    wide = size[0] // max(2, len(paths))
    for column, (name, (came, foreseen, fans)) in enumerate(paths.items()):
        shown = [came, *foreseen[::stride], *(path for fan in fans for path in fan)]
        low, high = np.concatenate(shown).min(0), np.concatenate(shown).max(0)
        middle, reach = (low + high) / 2, max(0.55 * (high - low).max(), 0.02)
        margins = (
            42 + column * wide,
            size[0] - (column + 1) * wide + 14,
            top + 26,
            size[1] - top - wide + 62,
        )
        limits = [(float(m - reach), float(m + reach)) for m in middle]
        plot = Plot(size, limits[0], limits[1], margins, parts)
        plot.y_axis("", formats.compact)
        plot.text(plot.x.start, plot.y.end - 8, f"{name}, m in the plane", "label")
        plot.x_axis("", formats.compact)
        for fan, found in zip(fans, plans.fans, strict=True):
            for path in fan:
                plot.line(_points(np.vstack([came[found.step], path])), CANDIDATES, "thin")
        plot.line(_points(came), INK, "truth")
        for start in range(0, len(foreseen), stride):
            known = foreseen[start, : len(foreseen) - start]
            plot.line(_points(np.vstack([came[start], known])), CHOSEN)
        plot.mark(_points(came)[0], "circle", INK, "mark", 4, "first")


def _liveliest(plans: Plans) -> list[tuple[str, int]]:
    """The numbers of the observation that vary most in their own reach over the episode."""
    found = []
    for name in plans.foreseen:
        spread = plans.observed[name].std(0)
        found += [(float(x), name, dim) for dim, x in enumerate(spread) if x > 0]
    most = sorted(found, reverse=True)[:NUMBERS]
    return sorted((name, dim) for _, name, dim in most)


def _said(plans: Plans, paths: Paths) -> str:
    """The picture in words."""
    steps, number = plans.returns.shape
    found = plans.summary()
    said = f"Plans of {steps} steps, {number} candidates each. At first "
    said += f"{formats.number(found['expected_return'])} was expected"
    if plans.comparable:
        said += f", {formats.number(found['discounted_return'])} came, as discounted return; the "
        said += "reward of the next step was foreseen with a mean error of "
        said += formats.number(found["reward_error"])
    where = f"; paths of {formats.listing(paths)} in the plane" if paths else ""
    return f"{said}{where}."


def _points(path: np.ndarray) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in path]


def below(frames: Sequence[np.ndarray], plans: Plans) -> list[np.ndarray]:
    """The frames with a strip below: how the candidates' returns are spread at every step so far,
    bright the more of them lie there, the chosen plan's in orange, and what came in white."""
    if not frames:
        return []
    width = frames[0].shape[1]
    whole = strip(plans, width)
    found = []
    for step, frame in enumerate(frames):
        now = whole.copy()
        known = -(-(step + 1) * width // len(plans.paid))
        now[:, known:] = DARK
        found.append(np.concatenate([frame, now]))
    return found


def strip(plans: Plans, width: int) -> np.ndarray:
    """The strip of a whole episode, uint8 [STRIP, width, 3]; the largest return is at the top."""
    steps = len(plans.paid)
    lines = [plans.expected, *([plans.came] if plans.comparable else [])]
    every = np.concatenate([plans.returns.ravel(), *lines])
    low, span = every.min(), np.ptp(every) or 1.0

    def rows(values: np.ndarray) -> np.ndarray:
        return np.round((1 - (values - low) / span) * (STRIP - 2)).astype(int)

    counts = np.zeros((STRIP, steps))
    at = rows(plans.returns)
    np.add.at(counts, (at.T, np.arange(steps)), 1)
    dense = np.sqrt(counts / counts.max(0, keepdims=True))[..., None]
    picture = (1 - dense) * np.array(DARK) + dense * np.array(FAINT)
    for values, colour in zip(reversed(lines), (WHITE, BRIGHT)[-len(lines) :], strict=True):
        for thick in (0, 1):
            picture[rows(values) + thick, np.arange(steps)] = colour
    column = np.arange(width) * steps // width
    return picture[:, column].astype(np.uint8)
