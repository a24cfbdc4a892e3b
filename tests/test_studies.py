"""Whole studies in small, on the real environments: every stage, from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages import checkpoints
from tasks.rendering import choose_gl

ROOT = Path(__file__).parent.parent
MODEL, POLICY = ("encoder", "dynamics", "decoder"), ("encoder", "actor", "explorer")
ARMS = {"scratch": (), "model": MODEL, "policy": POLICY, "both": MODEL + POLICY}


def craik(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


def components(path: Path) -> dict[str, str]:
    """Component to digest, as `craik components` prints it."""
    done = craik("components", str(path), "--json")
    assert done.returncode == 0, done.stderr
    return {name: row["digest"] for name, row in json.loads(done.stdout).items()}


def check(out: Path, arms: set[str]) -> dict:
    """What every finished run holds; returns its results."""
    results = json.loads((out / "report" / "results.json").read_text())
    assert (out / "report" / "index.html").stat().st_size > 10_000
    for task in results["tasks"].values():
        assert set(task["arms"]) == arms
        assert task["references"]["random"] is not None
        for arm in task["arms"].values():
            assert arm["iqm"] is not None
            assert arm["updates"] > 0
            assert all(row["final"] is not None for row in arm["seeds"])
    films = list(out.glob("evaluate/*/*/seed-0/video.mp4"))
    if choose_gl() is not None:
        assert len(films) == len(results["tasks"]) * len(arms)
        assert all(film.stat().st_size > 1000 for film in films)
    return results


@pytest.mark.parametrize("name", ["desk", "robodesk", "crafter", "metaworld-ml10"])
def test_a_ready_made_study_runs_to_its_report(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = craik("run", name, "--preset", "smoke", "--out", str(out), "--jobs", "1")
    assert done.returncode == 0, done.stderr
    check(out, {"scratch", "model", "policy", "both"})
    explored = components(out / "explore" / "seed-0" / "checkpoint")
    starts = list(out.glob("transfer/*/*/seed-0/start"))
    assert {start.parent.parent.name for start in starts} == set(ARMS)
    for start in starts:
        for component, row in checkpoints.components(start).items():
            same = row["digest"] == explored[component]
            assert same == (component in ARMS[start.parent.parent.name]), (start, component)


@pytest.mark.slow
def test_a_study_with_variants_runs_to_its_report(tmp_path: Path) -> None:
    """Two kinds of actions, five roles of planning, one report."""
    out = tmp_path / "run"
    done = craik("run", "planning-roles", "--preset", "smoke", "--out", str(out), "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert (out / "report" / "index.html").stat().st_size > 10_000
    results = json.loads((out / "report" / "results.json").read_text())
    assert len(results["variants"]) == 5
    for name, variant in results["variants"].items():
        assert list(variant["tasks"]) == ["maze/collect:small", "desk/reach:dense"]
        for task in variant["tasks"].values():
            assert task["arms"]["scratch"]["iqm"] is not None
            assert task["arms"]["scratch"]["updates"] > 0
        for path in (out / name).glob("evaluate/*/scratch/seed-0/episodes.jsonl"):
            planner = "mcts" if name == "Learn-Data-Eval" else "none"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            assert {row["planner"] for row in rows} == {planner}


@pytest.mark.slow
def test_planners_are_crossed_with_world_models(tmp_path: Path) -> None:
    """Every planner acts with either model; adding one later makes evaluations due, and no more."""
    out, study = tmp_path / "run", ("planners", "--preset", "smoke", "--jobs", "1")
    first = ("--set", 'evaluate.planners=["cem"]')
    done = craik("run", *study, "--out", str(out), *first)
    assert "20 jobs done, 0 were done before" in done.stderr
    done = craik("run", *study, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "8 jobs done, 20 were done before" in done.stderr
    assert len(list(out.glob("*/transfer/*/*/seed-0/done.json"))) == 4
    crossed(out)


def crossed(out: Path) -> None:
    """The matrix of a run of `planners`."""
    results = json.loads((out / "report" / "results.json").read_text())
    tasks = ("desk/reach:dense", "desk/open_drawer:dense", None)
    every = {
        (task, model, planner)
        for task in tasks
        for model in ("rssm", "muzero")
        for planner in ("none", "cem", "mppi", "mcts")
    }
    assert {(c["task"], c["world_model"], c["planner"]) for c in results["planning"]} == every
    for variant in results["variants"].values():
        assert variant["missing"] == []
        for task in variant["tasks"].values():
            main, *beside = task["arms"]["scratch"]["planners"].items()
            assert main[0] == "none"
            assert main[1]["iqm"] == task["arms"]["scratch"]["iqm"]
            for _, found in (main, *beside):
                assert found["foresight"]["achieved"] > 0
                assert found["episodes"] == 4
    assert "Planner by world model" in (out / "report" / "index.html").read_text()


CELL = """
import gymnasium

def make_pole(render_mode=None):
    return gymnasium.make("InvertedPendulum-v5", render_mode=render_mode)
"""


def test_own_tasks_run_through_all_stages_without_an_edit(tmp_path: Path) -> None:
    (tmp_path / "cell.py").write_text(CELL)
    study = tmp_path / "own.toml"
    study.write_text(
        'name = "own"\n'
        '[tasks]\nexplore = "gymnasium:InvertedPendulum-v5"\ntransfer = ["cell.py:make_pole"]\n'
        '[transfer.arms]\nscratch = []\nboth = ["world_model", "policy"]\n'
    )
    out = tmp_path / "run"
    done = craik(
        "run", str(study), "--preset", "smoke", "--out", str(out), "--jobs", "1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert list(check(out, {"scratch", "both"})["tasks"]) == ["cell.py:make_pole"]
    again = craik(
        "run", str(study), "--preset", "smoke", "--out", str(out), "--jobs", "1", cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr
    assert "start   " not in again.stdout + again.stderr  # nothing was due
