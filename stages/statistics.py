"""Statistics of few runs: point estimates with bootstrap intervals, never a bare mean.

The estimators follow Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical
Precipice" (arXiv 2108.13264). Runs are given as *strata*: one array of scores per task, one score
per seed; tasks may have different numbers of seeds. Resampling draws seeds within each task, so
the tasks' weights stay as they are. Everything is seeded and vectorised over resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 5000
CONFIDENCE = 0.95

Array = np.ndarray
Strata = Sequence[Array]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A number, its 95 % interval (None where one run per task cannot give one) and its runs."""

    value: float
    interval: Interval | None
    runs: int


@dataclass(frozen=True)
class Effects:
    """A 2 x 2 design paired by seed; the values of each seed stand beside each estimate."""

    model: Estimate
    policy: Estimate
    interaction: Estimate
    by_seed: dict[str, Array]


@dataclass(frozen=True)
class Profile:
    """Share of runs above each threshold, with a pointwise band (None for single runs)."""

    thresholds: Array
    share: Array
    low: Array | None
    high: Array | None


def interquartile_mean(scores: Array) -> Array:
    """Mean of the middle half along the last axis: a quarter of the runs is cut off at each end.

    As the field computes it, whole runs are cut: floor(n / 4) at each end. Fewer than four runs
    are thus averaged as they are.
    """
    ordered = np.sort(np.asarray(scores, dtype=float), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def resample(strata: Strata, seed: int, resamples: int = RESAMPLES) -> list[Array]:
    """Draw every stratum's runs with replacement: a list of arrays [resamples, n_i, ...]."""
    generator = np.random.default_rng(seed)
    return [
        scores[generator.integers(0, len(scores), size=(resamples, len(scores)))]
        for scores in _arrays(strata)
    ]


def percentiles(draws: Array) -> Interval:
    """The percentile bootstrap's 95 % interval of draws along the first axis."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def estimate(
    strata: Strata,
    statistic: Callable[[Array], Array] = interquartile_mean,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """`statistic` over all runs of all strata, with its stratified bootstrap interval.

    Args:
        strata: one array [seeds] per task; each has at least one run.
        statistic: maps [..., runs] to [...].
    """
    arrays = _arrays(strata)
    runs = np.concatenate(arrays)
    interval = None
    if _enough(arrays):
        draws = np.concatenate(resample(arrays, seed, resamples), axis=-1)
        interval = percentiles(statistic(draws))
    return Estimate(float(statistic(runs)), interval, len(runs))


def mean(scores: Array) -> Array:
    """Mean along the last axis, as a statistic for `estimate`."""
    return np.asarray(scores, dtype=float).mean(axis=-1)


def probability_of_improvement(
    better: Strata, worse: Strata, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """How probably a run of `better` beats a run of `worse` on the same task; ties count half.

    The mean over tasks of the Mann-Whitney statistic U / (n m).

    Args:
        better: one array [seeds] per task.
        worse: the same tasks in the same order.

    Raises:
        ValueError: the numbers of tasks differ.
    """
    xs, ys = _arrays(better), _arrays(worse)
    if len(xs) != len(ys):
        raise ValueError(f"{len(xs)} tasks against {len(ys)}: compare the same tasks")
    value = float(np.mean([_wins(x[None], y[None])[0] for x, y in zip(xs, ys, strict=True)]))
    interval = None
    if _enough(xs) and _enough(ys):
        pairs = zip(resample(xs, seed, resamples), resample(ys, seed + 1, resamples), strict=True)
        interval = percentiles(np.mean([_wins(x, y) for x, y in pairs], axis=0))
    return Estimate(value, interval, sum(map(len, xs)) + sum(map(len, ys)))


def performance_profile(
    strata: Strata, thresholds: Array, seed: int = 0, resamples: int = 1000
) -> Profile:
    """Share of runs whose score lies above each threshold, averaged over all runs."""
    arrays = _arrays(strata)
    thresholds = np.asarray(thresholds, dtype=float)
    share = _share_above(np.concatenate(arrays), thresholds)
    if not _enough(arrays):
        return Profile(thresholds, share, None, None)
    draws = _share_above(np.concatenate(resample(arrays, seed, resamples), axis=-1), thresholds)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return Profile(thresholds, share, low, high)


def area_under_curve(env_steps: Array, values: Array) -> float | None:
    """Mean height of the curve through the points (trapezoids), in the unit of `values`.

    None where fewer than two distinct env steps leave no width to average over.
    """
    steps, heights = np.asarray(env_steps, dtype=float), np.asarray(values, dtype=float)
    if len(steps) < 2 or steps[-1] <= steps[0]:
        return None
    return float(np.trapezoid(heights, steps) / (steps[-1] - steps[0]))


def paired_effects(
    origin: Strata, model: Strata, policy: Strata, both: Strata, seed: int = 0
) -> Effects:
    """What carrying the model and carrying the policy add, each seed compared with itself.

    Per seed: model = ((model - origin) + (both - policy)) / 2, policy likewise, and
    interaction = (both - policy) - (model - origin). The two main effects add up to
    both - origin. Estimates are means over the seeds, intervals resample whole seeds.

    Args:
        origin, model, policy, both: per task an array [seeds], the same seeds in the same order.
    """
    cells = [_arrays(cell) for cell in (origin, model, policy, both)]
    contrasts = {
        "model": lambda o, m, p, b: ((m - o) + (b - p)) / 2,
        "policy": lambda o, m, p, b: ((p - o) + (b - m)) / 2,
        "interaction": lambda o, m, p, b: (b - p) - (m - o),
    }
    by_task = {
        name: [contrast(*task) for task in zip(*cells, strict=True)]
        for name, contrast in contrasts.items()
    }
    parts = {name: estimate(values, mean, seed) for name, values in by_task.items()}
    by_seed = {name: np.concatenate(values) for name, values in by_task.items()}
    return Effects(parts["model"], parts["policy"], parts["interaction"], by_seed)


def _arrays(strata: Strata) -> list[Array]:
    arrays = [np.asarray(scores, dtype=float) for scores in strata]
    if not arrays or any(scores.ndim != 1 or not len(scores) for scores in arrays):
        raise ValueError("every task needs at least one run")
    return arrays


def _enough(arrays: Strata) -> bool:
    """Whether resampling says anything: a single run has no spread to draw from."""
    return all(len(scores) > 1 for scores in arrays)


def _wins(better: Array, worse: Array) -> Array:
    """Mann-Whitney share of [draws, n] over [draws, m]."""
    difference = better[:, :, None] - worse[:, None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(1, 2))


def _share_above(scores: Array, thresholds: Array) -> Array:
    """[..., runs] and [k] to [..., k]."""
    return (scores[..., :, None] > thresholds).mean(axis=-2)
