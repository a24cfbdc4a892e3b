"""Figures about what exploration learnt: coverage, objects, bonus, model error, open loop."""

import base64
import io
from collections.abc import Callable, Sequence

import numpy as np

from stages import formats
from stages.figures import INK, MARGINS, WIDTH, Figure
from stages.records import Loop, Training
from stages.results import moved_shares, random_health
from stages.scores import finite
from stages.svg import Plot, extent

EXPLORER, CHANCE = "--arm-explorer", "--arm-scratch"
HORIZON_DIMS = 6
FRAMES = 8


def health(loop: Loop) -> list[Figure]:
    """Whether exploration learnt anything: four figures, each left out where nothing is known."""
    found = [
        _over_time(loop, "coverage", "Coverage", "share of the workspace visited", _percent),
        _moved(loop),
        _over_time(
            loop, "model_error", "Model error", "error on held-out episodes", formats.number
        ),
        _over_time(loop, "bonus", "Curiosity bonus", "mean bonus", formats.number),
    ]
    return [figure for figure in found if figure]


def _over_time(
    loop: Loop, key: str, title: str, label: str, form: Callable[[float], str]
) -> Figure | None:
    """A health value over env steps: a thin line per seed, their mean, and the baselines."""
    lines = [points for table in loop.explorations if (points := _series(table, key))]
    if not lines:
        return None
    mean = _mean_line(lines)
    baseline, name = _baseline(loop, key)
    heights = [y for line in [*lines, baseline] for _, y in line]
    last = max(x for line in [*lines, baseline] for x, _ in line)  # either may be ahead
    limits = (0.0, 1.0) if key == "coverage" else extent(heights)
    plot = Plot((WIDTH, 230), (0, last or 1), limits, MARGINS)
    plot.y_axis(label, form if key == "coverage" else formats.compact)
    plot.x_axis("env steps of exploration", formats.compact)
    for line in lines if len(lines) > 1 else ():
        plot.line(line, EXPLORER, "thin")
    plot.line(baseline, CHANCE, "dashed")
    if baseline:
        x, y = baseline[-1]
        plot.text(plot.x(x), plot.y(y) - 6, name, "note", "end")
    plot.line(mean, EXPLORER)
    plot.mark(mean[-1], "circle", EXPLORER, size=3.4)
    end = form(mean[-1][1])
    # at equal env steps, since a random policy is done before an exploration
    level = np.interp(mean[-1][0], *np.array(baseline).T) if baseline else 0.0
    against = f", against {form(float(level))} of the {name}" if baseline else ""
    alt = (
        f"{title} ({label}) over exploration: from {form(mean[0][1])} to {end} after "
        f"{formats.steps(mean[-1][0])} env steps, mean of {formats.plural(len(lines), 'seed')}"
        f"{against}."
    )
    return Figure(title, plot.render(alt), f"{end}{against} · {effort(loop)}")


def _moved(loop: Loop) -> Figure | None:
    """Share of recent episodes in which each object moved, beside the random policy's."""
    shares = moved_shares([table.health[-1] for table in loop.explorations if table.health])
    if not shares:
        return None
    chance = moved_shares(random_health(loop))
    plot = Plot((WIDTH, 38 * len(shares) + 72), (0, 1), (len(shares), 0), (14, 14, 26, 40))
    plot.x_grid("share of recent episodes", _percent)
    for index, (name, share) in enumerate(shares.items()):
        plot.text(plot.x.start, plot.y(index + 0.3), name, "row")
        plot.text(plot.x.end, plot.y(index + 0.3), _percent(share), "value", "end")
        plot.bar(0, share, index + 0.64, 9, EXPLORER, "solid")
        if name in chance:
            tip = f"random policy: {_percent(chance[name])}"
            plot.mark((chance[name], index + 0.64), "diamond", INK, "mark", 4.2, tip)
    said = [
        f"{name} {_percent(share)}"
        + (f" (random policy {_percent(chance[name])})" if name in chance else "")
        for name, share in shares.items()
    ]
    alt = f"Share of recent exploration episodes in which each object moved: {', '.join(said)}."
    mark = "the diamond is a random policy · " if chance else ""
    return Figure("Objects moved", plot.render(alt), mark + effort(loop))


def open_loop(training: Training) -> list[Figure]:
    """The model's open-loop prediction against the truth, from one job's `open_loop.npz`."""
    path = training.job.folder / "open_loop.npz"
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        context = int(arrays["context"])
    except (OSError, KeyError, ValueError):  # not written yet, or cut off
        return []
    behind = (
        f"seed {training.job.seed} · {formats.steps(training.env_steps)} env steps · "
        f"{formats.steps(training.updates)} updates"
    )
    found: list[Figure | None] = []
    if "truth" in arrays and "prediction" in arrays:
        truth, prediction = arrays["truth"], arrays["prediction"]
        found.append(_dimensions(truth, prediction, context, behind))
        found.append(_growth(truth, prediction, context, behind))
    if "truth_image" in arrays and "prediction_image" in arrays:
        images = (arrays["truth_image"], arrays["prediction_image"])
        found.append(_filmstrip(*images, context, behind))
    return [figure for figure in found if figure]


def _dimensions(
    truth: np.ndarray, prediction: np.ndarray, context: int, behind: str
) -> Figure | None:
    """Small panels of the observation's liveliest numbers."""
    spread = np.nan_to_num(truth.std(axis=0))
    dims = [
        int(dim) for dim in np.argsort(-spread, kind="stable")[:HORIZON_DIMS] if spread[dim] > 0
    ]
    if not dims or len(truth) < 2:
        return None
    rows = -(-len(dims) // 2)
    width, height = WIDTH, 92 * rows + 22
    parts: list[str] = []
    half = WIDTH // 2
    for index, dim in enumerate(sorted(dims)):
        column, row = index % 2, index // 2
        margins = (
            4 + half * column,
            half + 6 - half * column,
            24 + 92 * row,
            height - 84 - 92 * row,
        )
        both = np.concatenate([truth[:, dim], prediction[:, dim]])
        panel = Plot(
            (width, height), (0, len(truth) - 1), extent(both.tolist(), zero=False), margins
        )
        panel.parts = parts
        panel.text(panel.x.start, panel.y.end - 7, f"observation, number {dim}", "tick")
        panel.upright(context, "", "zero")
        panel.line(list(enumerate(truth[:, dim].tolist())), INK, "truth")
        panel.line(list(enumerate(prediction[:, dim].tolist())), EXPLORER, "line")
    frame = Plot((width, height), (0, 1), (0, 1), parts=parts)
    frame.text(
        8,
        height - 4,
        f"agent steps; after the upright line ({context}) the model is alone",
        "label",
    )
    alt = (
        f"Open-loop prediction against the truth over {len(truth)} agent steps, for "
        f"{formats.plural(len(dims), 'number')} of the observation. The model sees the first "
        f"{context} steps and predicts the rest from the actions alone; "
        f"{_said(truth, prediction, context)}."
    )
    caption = f"grey: truth, colour: prediction · {behind}"
    return Figure("Prediction against truth", frame.render(alt), caption)


def _growth(truth: np.ndarray, prediction: np.ndarray, context: int, behind: str) -> Figure | None:
    """Error over the open-loop horizon, beside predicting no change."""
    error, still = errors(truth, prediction, context)
    if len(error) < 2:
        return None
    plot = Plot((WIDTH, 230), (1, len(error)), extent([*error, *still]), MARGINS)
    plot.y_axis("error, in spreads of the truth", formats.compact)
    plot.x_axis("agent steps predicted ahead", formats.compact)
    plot.line(list(enumerate(still, 1)), CHANCE, "dashed")
    plot.text(plot.x.end, plot.y(still[-1]) - 6, "predicting no change", "note", "end")
    plot.line(list(enumerate(error, 1)), EXPLORER)
    alt = f"Open-loop error over the horizon: {_said(truth, prediction, context)}."
    return Figure("Error over the horizon", plot.render(alt), behind)


def errors(
    truth: np.ndarray, prediction: np.ndarray, context: int
) -> tuple[list[float], list[float]]:
    """Root mean square error per step after the context, of the model and of no change.

    Both are in units of the truth's standard deviation, averaged over numbers that vary. A number
    that merely trembles (a drawer at rest) would count as millions of its own spreads.
    """
    spread = truth.std(axis=0)
    live = spread > max(1e-8, 0.01 * spread.max(initial=0.0))
    if context < 1 or context >= len(truth) or not live.any():
        return [], []
    ahead = truth[context:, live]
    scaled = (prediction[context:, live] - ahead) / spread[live]
    still = (truth[context - 1, live] - ahead) / spread[live]
    return (
        np.sqrt((scaled**2).mean(axis=1)).tolist(),
        np.sqrt((still**2).mean(axis=1)).tolist(),
    )


def _said(truth: np.ndarray, prediction: np.ndarray, context: int) -> str:
    error, still = errors(truth, prediction, context)
    if not error:
        return "its error cannot be told"
    return (
        f"after {formats.plural(len(error), 'step')} alone its error is "
        f"{formats.number(error[-1])} spreads of the truth, against {formats.number(still[-1])} of "
        "predicting no change"
    )


def _filmstrip(truth: np.ndarray, prediction: np.ndarray, context: int, behind: str) -> Figure:
    """Frames of truth, prediction and their difference, one column per step."""
    steps = np.linspace(max(context - 1, 0), len(truth) - 1, FRAMES).round().astype(int)
    rows = [truth[steps], prediction[steps]]
    rows.append(np.abs(rows[0].astype(int) - rows[1].astype(int)).astype(np.uint8))
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    alt = (
        f"Frames at agent steps {', '.join(map(str, steps))}: above the truth, in the middle the "
        f"model's open-loop prediction after {context} steps of context, below their difference, "
        f"on average {np.abs(rows[2]).mean() / 2.55:.1f} % of full brightness."
    )
    image = f'<img class="filmstrip" src="{png(sheet)}" alt="{alt}">'
    return Figure("Truth, prediction, difference", image, behind)


def png(image: np.ndarray) -> str:
    """A uint8 picture as a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def effort(loop: Loop) -> str:
    """How many seeds, env steps and updates stand behind a figure about exploration."""
    steps = [table.env_steps for table in loop.explorations if table.env_steps is not None]
    updates = [table.updates for table in loop.explorations if table.updates is not None]
    return (
        f"{formats.plural(len(loop.explorations), 'seed')} · "
        f"{formats.steps(max(steps, default=None))} env steps · "
        f"{formats.steps(max(updates, default=None))} updates"
    )


def _baseline(loop: Loop, key: str) -> tuple[list[tuple[float, float]], str]:
    if key == "model_error":
        lines = [_series(table, "model_error_baseline") for table in loop.explorations]
        return _mean_line([line for line in lines if line]), "guess of no change"
    if key == "coverage" and loop.random_exploration:
        return _series(loop.random_exploration, key), "random policy"
    return [], ""


def _series(table: Training, key: str) -> list[tuple[float, float]]:
    return [
        (float(row["env_steps"]), value)
        for row in table.health
        if (value := finite(row.get(key))) is not None
    ]


def _mean_line(lines: Sequence[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Mean over the lines as far as all of them reach, linearly between their points."""
    if not lines:
        return []
    end = min(line[-1][0] for line in lines)
    grid = np.array([x for x, _ in max(lines, key=len) if x <= end] or [end])
    heights = [np.interp(grid, *np.array(line).T) for line in lines]
    return list(zip(grid.tolist(), np.mean(heights, axis=0).tolist(), strict=True))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}{formats.THIN}%"
