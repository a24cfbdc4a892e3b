"""The report's statistics against hand-computed numbers and closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from stages import statistics


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([5], 5.0),
        ([1, 2, 6], 3.0),  # nothing to cut below four runs
        ([100, 2, 4, -50], 3.0),
        ([1, 2, 3, 4, 50], 3.0),
        ([0, 0, 1, 2, 3, 4, 99, 99], 2.5),
    ],
)
def test_interquartile_mean_by_hand(scores: list[float], expected: float) -> None:
    assert statistics.interquartile_mean(np.array(scores)) == pytest.approx(expected)


def test_interquartile_mean_is_the_trimmed_mean_of_the_field() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 11))
    expected = stats.trim_mean(scores, 0.25, axis=-1)
    np.testing.assert_allclose(statistics.interquartile_mean(scores), expected)


def test_bootstrap_interval_of_the_mean_matches_the_normal_theory() -> None:
    scores = np.random.default_rng(1).normal(10, 2, size=400)
    found = statistics.estimate([scores], statistics.mean)
    assert found.interval is not None
    half = 1.96 * scores.std() / math.sqrt(len(scores))
    assert found.value == pytest.approx(scores.mean())
    assert found.interval[0] == pytest.approx(scores.mean() - half, abs=0.03)
    assert found.interval[1] == pytest.approx(scores.mean() + half, abs=0.03)


def test_three_seeds_give_their_range() -> None:
    """The least seed is drawn three times in 1/27 > 2.5 % of resamples."""
    assert statistics.estimate([np.array([1.0, 5.0, 9.0])]).interval == (1.0, 9.0)


def test_strata_are_resampled_within_tasks() -> None:
    """Two tasks without spread: their difference must not leak into the interval."""
    found = statistics.estimate([np.zeros(3), np.full(3, 10.0)], statistics.mean)
    assert found.value == 5.0
    assert found.interval == (5.0, 5.0)
    pooled = statistics.estimate([np.array([0.0] * 3 + [10.0] * 3)], statistics.mean)
    assert pooled.interval is not None
    assert pooled.interval[1] - pooled.interval[0] > 5


def test_one_run_has_no_interval() -> None:
    one = np.array([4.0])
    assert statistics.estimate([one]) == statistics.Estimate(4.0, None, 1)
    assert statistics.estimate([one, np.array([1.0, 2.0])]).interval is None
    assert statistics.probability_of_improvement([one], [one + 1]).interval is None
    assert statistics.performance_profile([one], np.array([0.0])).low is None
    assert statistics.paired_effects([one], [one], [one], [one]).model.interval is None


def test_a_seed_gives_the_same_interval_again() -> None:
    scores = [np.array([1.0, 2.0, 4.0, 8.0, 16.0])]
    assert statistics.estimate(scores, seed=3) == statistics.estimate(scores, seed=3)


def test_probability_of_improvement_by_hand() -> None:
    """Of nine pairs five are won and two are tied: (5 + 1) / 9; the other task is won: 1."""
    first = statistics.probability_of_improvement([np.array([1, 3, 5])], [np.array([0, 3, 5])])
    assert first.value == pytest.approx(5 / 9)
    second = statistics.probability_of_improvement(
        [np.array([1, 3, 5]), np.array([9, 9])], [np.array([0, 3, 5]), np.array([1, 2])]
    )
    assert second.value == pytest.approx((5 / 9 + 1) / 2)


def test_probability_of_improvement_closed_form() -> None:
    """P(X > Y) of two unit normals one apart is Phi(1 / sqrt 2); the interval covers it."""
    generator = np.random.default_rng(2)
    better, worse = generator.normal(1, 1, 80), generator.normal(0, 1, 80)
    found = statistics.probability_of_improvement([better], [worse], resamples=500)
    assert found.interval is not None
    assert found.interval[0] < stats.norm.cdf(1 / math.sqrt(2)) < found.interval[1]
    same = stats.mannwhitneyu(better, worse).statistic / 80**2
    assert found.value == pytest.approx(same)


def test_probability_of_improvement_needs_the_same_tasks() -> None:
    with pytest.raises(ValueError, match="compare the same tasks"):
        statistics.probability_of_improvement([np.ones(2)], [np.ones(2), np.ones(2)])


def test_performance_profile_by_hand() -> None:
    profile = statistics.performance_profile(
        [np.array([0.0, 0.5]), np.array([0.5, 1.0])], np.array([-0.1, 0.0, 0.5, 1.0])
    )
    np.testing.assert_allclose(profile.share, [1.0, 0.75, 0.25, 0.0])
    assert profile.low is not None
    assert profile.high is not None
    assert np.all(profile.low <= profile.share)
    assert np.all(profile.high >= profile.share)


def test_area_under_curve_by_hand() -> None:
    steps = np.array([0, 100, 400])
    assert statistics.area_under_curve(steps, np.array([0, 10, 10])) == pytest.approx(8.75)
    assert statistics.area_under_curve(steps, np.array([7, 7, 7])) == pytest.approx(7)
    assert statistics.area_under_curve(steps[:1], np.array([7])) is None


def test_paired_effects_by_hand() -> None:
    origin, model = np.array([0.0, 10.0]), np.array([4.0, 16.0])
    policy, both = np.array([1.0, 12.0]), np.array([9.0, 20.0])
    found = statistics.paired_effects([origin], [model], [policy], [both])
    np.testing.assert_allclose(found.by_seed["model"], [(4 + 8) / 2, (6 + 8) / 2])
    np.testing.assert_allclose(found.by_seed["policy"], [(1 + 5) / 2, (2 + 4) / 2])
    np.testing.assert_allclose(found.by_seed["interaction"], [4, 2])
    assert found.model.value == pytest.approx(6.5)
    assert found.model.value + found.policy.value == pytest.approx((both - origin).mean())
    assert found.model.interval == (6.0, 7.0)


def test_pairing_by_seed_removes_what_seeds_share() -> None:
    """Seeds differ by hundreds, the model adds exactly five to each: the interval is a point."""
    origin = np.array([0.0, 100.0, 500.0])
    found = statistics.paired_effects([origin], [origin + 5], [origin], [origin + 5])
    assert found.model.interval == pytest.approx((5.0, 5.0))
    assert found.interaction.value == pytest.approx(0.0)


def test_empty_strata_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        statistics.estimate([np.array([])])
