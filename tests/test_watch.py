"""`craik watch`: trained agents from a run's folder alone, and planning in real time."""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import toml
from pipeline.cli import main
from pipeline.settings import resolved
from pipeline.watch import watch
from policies.settings import PlanningSettings
from stages import checkpoints, watching
from stages.explore import fresh_agent
from stages.plan_pictures import BRIGHT, DARK, STRIP, WHITE, below, plan_picture, strip
from stages.plans import Plans, seen_plans
from stages.realtime import LEAST, MOST, Timed, calibrate, sized
from stages.settings import Study
from tasks import registry
from tests import tiny

TASK = "desk/reach:dense"
pytestmark = pytest.mark.usefixtures("undisturbed")


def study() -> Study:
    arms = {"scratch": {}, "both": {"carry": ["world_model", "curious_policy"]}}
    return tiny.study(
        TASK, transfer={"steps": 80, "arms": arms}, planning={"samples": 16, "elites": 4}
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder in which one agent of two is there."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "study.toml").write_text(toml.dumps(resolved(study())))
    spec = registry.spec(TASK, study().tasks)
    agent = fresh_agent(study(), spec, 0, "transfer", curious=True)
    job = folder / "transfer" / "desk-reach-dense" / "both" / "seed-0"
    checkpoints.save(job / "checkpoint", "updates-000000010", agent.components())
    return folder


def test_an_agent_is_filmed_with_another_planner_from_a_moved_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = run.rename(tmp_path / "elsewhere")
    out = tmp_path / "film" / "watch.mp4"
    planning = ['planning.evaluate="cem"', "planning.horizon=2"]
    made: list[tuple[Any, Any]] = []

    def spy(*args: Any, **kwargs: Any) -> Plans:
        made.append((args, seen_plans(*args, **kwargs)))
        return made[-1][1]

    monkeypatch.setattr(watching, "seen_plans", spy)
    found = watch(moved, out, arm="both", overrides=planning, plans=True)
    assert found | {"planner": "cem", "horizon": 2, "steps": 10, "samples": 16} == found
    assert (found["task"], found["seed"]) == (TASK, 0)
    assert found["return"] >= 0
    assert found["worst_ms"] >= found["median_ms"] > 0
    assert "in_time" not in found
    json.dumps(found, allow_nan=False)
    assert out.exists() or out.with_suffix(".missing.txt").exists()
    # the very plans that were acted by, and all that came
    (_, _, _, memories, *_), plans = made[0]
    taken = np.stack([memory.action[0] for memory in memories])
    np.testing.assert_array_equal(plans.chosen[:, 0], taken)
    assert plans.returns.shape == (10, 16)
    assert plans.foreseen["state"].shape == (10, 2, 15)
    assert plans.paid.sum() == pytest.approx(found["return"])
    assert found["discounted_return"] == pytest.approx(plans.came[0], abs=1e-4)
    assert [fan.foreseen["state"].shape for fan in plans.fans] == [(16, 2, 15)] * 4
    assert all((np.diff(fan.returns) >= 0).all() for fan in plans.fans)
    picture = ElementTree.fromstring(Path(found["plans"]).read_text())
    assert picture.attrib["aria-label"].startswith("Plans of 10 steps, 16 candidates each.")
    assert "paths of tip and puck in the plane" in picture.attrib["aria-label"]


def test_in_real_time_the_samples_are_chosen_here(run: Path, tmp_path: Path) -> None:
    small = ['planning.evaluate="mppi"', "planning.horizon=1", "planning.iterations=1"]
    found = watch(run, tmp_path / "watch.mp4", arm="both", overrides=small, hz=0.1)
    assert found["holds"] is True
    assert found["in_time"] == 1.0
    assert found["samples"] == MOST
    assert found["elites"] == MOST // 4


def test_a_tree_search_is_timed_as_it_is(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It draws no samples, of which a number could be chosen; how far it looks is its depth."""
    small = ["--set", "planning.search.simulations=2", "--set", "planning.search.actions=3"]
    arguments = ["--arm", "both", "--planner", "mcts", "--horizon", "4", "--hz", "0.1", "--json"]
    out = ["--out", str(run / "watch.mp4")]
    monkeypatch.setattr(sys, "argv", ["craik", "watch", str(run), *arguments, *small, *out])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    found = json.loads(capsys.readouterr().out)
    assert found | {"planner": "mcts", "simulations": 2, "depth": 4, "actions": 3} == found
    assert found["in_time"] == 1.0
    assert not {"samples", "calibrated_ms", "holds"} & found.keys()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ([], ["--arm", "scratch, both"]),
        (["--arm", "bot"], ["--arm bot", "did you mean both"]),
        (["--arm", "both", "--task", "desk/push"], ["--task desk/push", "desk/reach:dense"]),
        (["--arm", "both", "--seed", "7"], ["--seed 7", "valid: 0"]),
        (["--arm", "both", "--variant", "x"], ["--variant x", "no variants"]),
        (["--arm", "both", "--planner", "mpp"], ["--planner mpp", "did you mean mppi"]),
        (["--arm", "both", "--horizon", "0"], ["horizon"]),
        (["--arm", "both", "--out", "film"], ["--out film", ".mp4"]),
        (["--arm", "scratch"], ["scratch", "no checkpoint"]),
        (["--arm", "both", "--plans"], ["--plans", "--planner mppi"]),
        (["--arm", "both", "--set", "model.width=8"], ["encoder", "shape"]),
    ],
)
def test_mistakes_are_one_line(
    mistake: Any, run: Path, options: list[str], parts: list[str]
) -> None:
    line = mistake("watch", str(run), *options)
    assert all(part in line for part in parts), line


def test_no_run_is_one_line(mistake: Any, tmp_path: Path) -> None:
    assert "no run here" in mistake("watch", str(tmp_path))


@pytest.mark.parametrize(
    ("seconds", "hz", "samples"),
    [
        (lambda n: 1e-5 * n, 20, 2048),  # 37.5 ms of 50 hold 3,750
        (lambda n: 1e-3 * n, 20, 32),
        (lambda n: 0.02 + 1e-5 * n, 20, 1024),  # not in proportion: looked at again
        (lambda n: 1e-6 * n, 1, MOST),
        (lambda n: 1.0, 20, LEAST),
    ],
)
def test_the_largest_number_of_samples_that_holds(seconds: Any, hz: float, samples: int) -> None:
    tried = []

    def measure(settings: PlanningSettings) -> float:
        tried.append(settings.samples)
        assert settings.elites == settings.samples // 8
        return seconds(settings.samples)

    found = calibrate(PlanningSettings(), hz, measure)
    assert found.settings.samples == samples
    assert found.holds == (seconds(samples) <= 0.75 / hz)
    assert found.seconds == seconds(samples)
    assert len(set(tried)) == len(tried) <= 5
    assert sized(PlanningSettings(), samples) == found.settings


def test_steps_in_time_are_counted() -> None:
    timed = Timed(lambda rows, count: np.zeros((1, 2)))
    timed({}, 0)
    assert len(timed.seconds) == 1
    timed.seconds = [0.01, 0.02, 0.03, 0.08]
    found = timed.summary(20)
    assert found["in_time"] == 0.75
    assert found["worst_ms"] == 80
    assert found["median_ms"] == 25


def plans(comparable: bool = True) -> Plans:
    """Two steps of four candidates, on a scale from 0 to 46, a row of the strip for each."""
    return Plans(
        returns=np.array([[0.0, 0, 0, 46], [10, 20, 30, 40]]),
        expected=np.array([45.0, 40]),
        chosen=np.zeros((2, 3, 1)),
        rewards=np.array([[1.0, 1, 1], [4, 2, 2]]),
        foreseen={},
        fans=[],
        observed={"state": np.zeros((3, 1))},
        paid=np.array([1.0, 6]),
        discount=0.5,
        comparable=comparable,
    )


def test_what_came_is_discounted_from_every_step() -> None:
    np.testing.assert_allclose(plans().came, [1 + 0.5 * 6, 6])
    expected = {"expected_return": 45.0, "discounted_return": 4.0, "reward_error": 1.0}
    assert plans().summary() == expected
    assert plans(False).summary() == {"expected_return": 45.0}  # a bonus was wanted, or a goal


def test_the_strip_shows_candidates_the_plan_and_what_came() -> None:
    found = strip(plans(), 6)
    assert found.shape == (STRIP, 6, 3)
    assert [tuple(found[row, 0]) for row in (1, 42)] == [BRIGHT, WHITE]  # 45, and 4 of 46
    assert [tuple(found[row, 5]) for row in (6, 40)] == [BRIGHT, WHITE]  # 40, and 6
    brightness = found[:, 2].astype(int).sum(-1)
    assert brightness[46] > brightness[20] == sum(DARK)  # three candidates at 0, none at 26
    frames = below([np.zeros((4, 6, 3), np.uint8)] * 2, plans())
    assert [frame.shape for frame in frames] == [(4 + STRIP, 6, 3)] * 2
    assert (frames[0][4:, 3:] == DARK).all()  # what is yet to come
    np.testing.assert_array_equal(frames[1][4:], found)
    assert not (strip(plans(False), 6) == WHITE).all(-1).any()


def test_a_picture_of_plans_without_a_model_of_observations() -> None:
    picture = ElementTree.fromstring(plan_picture(plans(), {}))
    assert "45 was expected, 4.0 came" in picture.attrib["aria-label"]
    labels = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "reward of a step" in labels
    assert not [label for label in labels if label and "number" in label]
