"""`craik watch`: trained agents from a run's folder alone, and planning in real time."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import toml
from pipeline.cli import main
from pipeline.settings import resolved
from pipeline.watch import watch
from policies.settings import PlanningSettings
from stages import checkpoints
from stages.explore import fresh_agent
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
    run: Path, tmp_path: Path
) -> None:
    moved = run.rename(tmp_path / "elsewhere")
    out = tmp_path / "film" / "watch.mp4"
    planning = ['planning.evaluate="cem"', "planning.horizon=2"]
    found = watch(moved, out, arm="both", overrides=planning)
    assert found | {"planner": "cem", "horizon": 2, "steps": 10, "samples": 16} == found
    assert (found["task"], found["seed"]) == (TASK, 0)
    assert found["return"] >= 0
    assert found["worst_ms"] >= found["median_ms"] > 0
    assert "in_time" not in found
    json.dumps(found, allow_nan=False)
    assert out.exists() or out.with_suffix(".missing.txt").exists()


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
        (["--arm", "both", "--planner", "mpp"], ["planning.evaluate", "mppi"]),
        (["--arm", "both", "--horizon", "0"], ["horizon"]),
        (["--arm", "both", "--out", "film"], ["--out film", ".mp4"]),
        (["--arm", "scratch"], ["scratch", "no checkpoint"]),
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
