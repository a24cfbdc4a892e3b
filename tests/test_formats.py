"""How numbers are printed, and where a plot puts its ticks."""

import pytest

from stages import formats, svg


@pytest.mark.parametrize(
    ("value", "bounds", "metric", "signed", "expected"),
    [
        (46.2, (32.4, 55.9), None, False, "46 [32, 56]"),
        (0.8, (0.715, 0.91), "success", False, "80 % [72, 91]"),
        (0.012, (-0.004, 0.02), None, True, "+0.012 [−0.004, +0.020]"),
        (0.1, (-0.05, 0.2), "success", True, "+10 points [−5, +20]"),
        (4.25, None, "score", False, "4.2 %"),
        (1234.0, None, None, False, "1 234"),
        (None, None, "return", False, "–"),
        (0.0, (0.0, 0.0), "return", False, "0 [0, 0]"),
    ],
)
def test_measured(value, bounds, metric, signed, expected) -> None:
    text = formats.measured(value, bounds, metric, signed=signed)
    assert text.replace(formats.THIN, " ") == expected


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("desk/push_left:sparse", "push_left:sparse"),
        ("crafter/reward", "crafter/reward"),
        ("/somewhere/my_cell.py:make_peg", "my_cell.py:make_peg"),
        ("gymnasium:Reacher-v5", "gymnasium:Reacher-v5"),
    ],
)
def test_short_task(task: str, expected: str) -> None:
    assert formats.short_task(task) == expected


def test_listing_and_plural() -> None:
    assert formats.listing(["a"]) == "a"
    assert formats.listing(["a", "b", "c"]) == "a, b and c"
    assert [formats.plural(n, "seed") for n in (1, 3)] == ["1 seed", "3 seeds"]
    assert [formats.compact(n) for n in (250, 2500, 1e6, -0.5)] == ["250", "2.5k", "1M", "−0.5"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 3, [-2, 0, 2]),
        (7, 7, [7, 7.2, 7.4, 7.6, 7.8, 8]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert svg.ticks(low, max(high, low + (low == high)), 5) == pytest.approx(expected)


def test_extent_holds_everything() -> None:
    assert svg.extent([]) == pytest.approx((0.0, 1.06))
    low, high = svg.extent([-1.0, 3.0])
    assert low < -1 < 3 < high
    low, high = svg.extent([5.0, 5.0], zero=False)
    assert low < 5 < high


def test_plot_escapes_its_text() -> None:
    plot = svg.Plot((10, 10), (0, 1), (0, 1))
    plot.text(0, 0, "<b>&")
    assert "<b>" not in plot.render('a "quoted" alt')
    assert 'aria-label="a &quot;quoted&quot; alt"' in plot.render('a "quoted" alt')
