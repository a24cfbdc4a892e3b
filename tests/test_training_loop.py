"""Whole tiny jobs on the desk: going on after a stop, overlap, arms, and what is carried."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import checkpoints, explore, interruption, training_loop, transfer
from stages.acting import AgentActor
from stages.priorities import Priorities
from stages.settings import Arm, Study
from tests import tiny

TASK = "desk/reach:dense"
WORLD_MODEL = {"encoder", "dynamics", "decoder"}


def rows(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [r for r in found if (r["kind"] == kind if kind else r["kind"] != "time")]


def digests(folder: Path) -> dict[str, str]:
    return {name: row["digest"] for name, row in checkpoints.components(folder).items()}


def inputs(arm: str, exploration: Path | None = None, seed: int = 0) -> transfer.Inputs:
    return transfer.Inputs(TASK, arm, seed, exploration)


def with_arm(study: Study, **arm: Any) -> Study:
    arms = study.transfer.arms | {"special": Arm.model_validate(arm)}
    return study.model_copy(update={"transfer": study.transfer.model_copy(update={"arms": arms})})


@pytest.fixture(scope="module")
def exploration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explore")
    return explore.run(tiny.study(), explore.Inputs(0), folder)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return transfer.run(tiny.study(), inputs("scratch"), tmp_path_factory.mktemp("scratch"))


def test_exploration_leaves_what_it_should(exploration: Path) -> None:
    health = rows(exploration, "health")
    assert [row["env_steps"] for row in health] == sorted(row["env_steps"] for row in health)
    assert len(health) == explore.HEALTH_POINTS + 1
    assert health[0]["coverage"] == 0 < health[-1]["coverage"] < 1
    assert health[-1]["model_error"] > 0
    assert health[-1]["bonus"] > 0
    assert set(health[-1]["moved"]) == {"puck", "drawer", "button"}
    assert "explorer" in digests(exploration)
    assert (exploration / "open_loop.npz").exists()


def test_counters_and_curve_of_a_transfer(scratch: Path) -> None:
    curve = rows(scratch, "evaluation")
    assert curve[0]["env_steps"] == curve[0]["updates"] == 0
    assert len(curve) == 3
    assert curve[-1]["env_steps"] >= 80
    episodes = rows(scratch, "episode")
    assert {row["length"] for row in episodes} == {10}
    assert sum(row["length"] for row in episodes) <= curve[-1]["env_steps"]
    assert [row["random"] for row in episodes[:2]] == [True, True]
    assert not episodes[-1]["random"]
    # one update for four env steps past the random ones
    assert curve[-1]["updates"] == pytest.approx((curve[-1]["env_steps"] - 24) / 4, abs=2)


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_an_interrupted_job_ends_like_an_undisturbed_one(
    how: str, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Crash(Exception):
        pass

    def count(loop: training_loop.TrainingLoop) -> None:
        collect(loop)
        asked.append(loop.counters.env_steps)
        if how == "crash" and loop.counters.env_steps >= 60:
            raise Crash

    def watched() -> Any:
        class Watch:
            def __enter__(self) -> Any:
                return lambda: how == "stop" and asked[-1] >= 44

            def __exit__(self, *_: object) -> None:
                pass

        return Watch()

    collect = training_loop.TrainingLoop._collect
    minutes = 1e-9 if how == "crash" else 5.0  # a crash goes on from the last regular checkpoint
    study = tiny.study(training={"checkpoint_minutes": minutes})
    monkeypatch.setattr(training_loop.TrainingLoop, "_collect", count)
    monkeypatch.setattr(interruption, "watched", watched)
    with pytest.raises(Crash if how == "crash" else interruption.Interrupted):
        transfer.run(study, inputs("scratch"), tmp_path)
    monkeypatch.undo()
    assert 0 < asked[-1] < 80
    transfer.run(tiny.study(), inputs("scratch"), tmp_path)
    assert digests(tmp_path) == digests(scratch)
    assert rows(tmp_path) == rows(scratch)


def test_a_finished_job_run_again_changes_nothing(scratch: Path) -> None:
    before, lines = digests(scratch), rows(scratch)
    transfer.run(tiny.study(), inputs("scratch"), scratch)
    assert digests(scratch) == before
    assert rows(scratch) == lines


def test_carried_components_equal_the_explorations(
    exploration: Path, scratch: Path, tmp_path: Path
) -> None:
    study = tiny.study(transfer={"steps": 8})
    transfer.run(study, inputs("model", exploration), tmp_path)
    source, start = digests(exploration), digests(tmp_path / "start")
    fresh = digests(scratch / "start")
    assert set(start) == set(source) - {"explorer"}
    for name, digest in start.items():
        assert (digest == source[name]) is (name in WORLD_MODEL), name
        # a fresh part is the same in every arm
        assert (digest == fresh[name]) is (name not in WORLD_MODEL), name


def test_a_carried_explorer_keeps_the_arm_curious(
    exploration: Path, scratch: Path, tmp_path: Path
) -> None:
    study = tiny.study(transfer={"steps": 60})
    transfer.run(study, inputs("both", exploration), tmp_path)
    source, start, final = (digests(p) for p in (exploration, tmp_path / "start", tmp_path))
    assert start["explorer"] == source["explorer"] != final["explorer"]
    assert {name for name in start if start[name] == source[name]} == WORLD_MODEL | {
        "actor",
        "explorer",
    }
    assert rows(tmp_path, "train")[-1]["bonus/size"] > 0
    assert "bonus/size" not in rows(scratch, "train")[-1]


def test_without_a_curiosity_the_group_carries_the_policy_alone(tmp_path: Path) -> None:
    study = tiny.study(agent={"curiosity": "none"}, transfer={"steps": 8})
    explored = explore.run(study, explore.Inputs(0), tmp_path / "explore")
    transfer.run(study, inputs("policy", explored), tmp_path / "policy")
    source, start = digests(explored), digests(tmp_path / "policy" / "start")
    assert {name for name in start if start[name] == source[name]} == {"encoder", "actor"}


def test_fresh_parts_differ_between_seeds(scratch: Path, tmp_path: Path) -> None:
    transfer.run(tiny.study(transfer={"steps": 8}), inputs("scratch", seed=1), tmp_path)
    one, other = digests(scratch / "start"), digests(tmp_path / "start")
    assert all(one[name] != other[name] for name in one)


def test_the_exploring_agent_can_collect_first(exploration: Path, tmp_path: Path) -> None:
    study = with_arm(tiny.study(transfer={"steps": 40}), carry=["world_model"], prior_steps=24)
    transfer.run(study, inputs("special", exploration), tmp_path)
    assert not any(row["random"] for row in rows(tmp_path, "episode"))
    assert rows(tmp_path, "evaluation")[-1]["updates"] > 0


def test_the_explorations_replay_can_be_rehearsed(exploration: Path, tmp_path: Path) -> None:
    files = sorted((exploration / "replay").iterdir())
    study = with_arm(tiny.study(transfer={"steps": 40}), carry=["world_model"], replay_share=0.5)
    transfer.run(study, inputs("special", exploration), tmp_path)
    assert rows(tmp_path, "evaluation")[-1]["updates"] > 0
    assert sorted((exploration / "replay").iterdir()) == files


def test_an_exploration_without_curiosity_stays_random(tmp_path: Path) -> None:
    study = tiny.study(agent={"curiosity": "none"}, explore={"steps": 48})
    explore.run(study, explore.Inputs(0), tmp_path)
    assert "explorer" not in digests(tmp_path)
    assert all(row["random"] for row in rows(tmp_path, "episode"))


def test_collecting_while_learning_counts_nothing_twice(scratch: Path, tmp_path: Path) -> None:
    study = tiny.study(training={"overlap": True})
    transfer.run(study, inputs("scratch"), tmp_path)
    ours, theirs = rows(tmp_path, "evaluation"), rows(scratch, "evaluation")
    for name in ("env_steps", "updates", "episodes"):
        assert [row[name] for row in ours] == [row[name] for row in theirs]
    assert len(rows(tmp_path, "episode")) == len(rows(scratch, "episode"))


def test_a_carrying_arm_needs_an_exploration(tmp_path: Path) -> None:
    with pytest.raises(checkpoints.CheckpointError, match="there is no exploration"):
        transfer.run(tiny.study(), inputs("model"), tmp_path)


def test_a_carried_policy_collects_the_prefill_and_learns_no_sooner(
    exploration: Path, scratch: Path, tmp_path: Path
) -> None:
    study = tiny.study(training={"prefill_steps": 40})
    transfer.run(study, inputs("both", exploration), tmp_path / "both")
    transfer.run(study, inputs("scratch"), tmp_path / "scratch")
    both, alone = (rows(tmp_path / arm, "episode") for arm in ("both", "scratch"))
    assert not any(row["random"] for row in both)
    assert [row["random"] for row in alone[:4]] == [True] * 4
    ours, theirs = (rows(tmp_path / arm, "evaluation")[-1] for arm in ("both", "scratch"))
    assert ours["updates"] == theirs["updates"] < rows(scratch, "evaluation")[-1]["updates"]


@pytest.mark.parametrize(("reach", "said"), [(0.05, True), (5.0, False)])
def test_rewards_beyond_the_bins_are_told_once(
    reach: float, said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = tiny.study(model={"bin_reach": reach}, transfer={"steps": 60})
    with caplog.at_level(logging.WARNING, "craik.stages"):
        transfer.run(study, inputs("scratch"), tmp_path)
    lines = [record.getMessage() for record in caplog.records if "bin_reach" in record.getMessage()]
    assert len(lines) == int(said)
    if said:
        assert f"task {TASK}, seed 0, env step" in lines[0]
        assert "is cut off at 0.0512711; set model.bin_reach = " in lines[0]


def test_what_replay_learnt_and_the_temperature_go_on_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences drawn by their errors, with the agent whose update compiles fastest."""
    search = tiny.SEARCH.model_dump() | {"temperature_end": 0.25, "temperature_share": 0.5}
    study = tiny.study(
        agent={"world_model": "none"},
        muzero=tiny.MUZERO.model_dump(),
        learning=tiny.LEARNING.model_dump(),
        planning={"search": search},
        replay={"chunk": 16, "priority": 1.0},
    )
    heats: list[float] = []
    collected: list[int] = []
    act, collect = AgentActor.__call__, training_loop.TrainingLoop._collect

    def acting(actor: AgentActor, *arguments: Any, **options: Any) -> Any:
        if (heat := options.get("temperature")) is not None:
            heats.append(float(heat))
        return act(actor, *arguments, **options)

    def count(loop: training_loop.TrainingLoop) -> None:
        collect(loop)
        collected.append(loop.counters.env_steps)

    class Watch:
        def __enter__(self) -> Any:
            return lambda: collected[-1] >= 44

        def __exit__(self, *_: object) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(AgentActor, "__call__", acting)
        transfer.run(study, inputs("scratch"), tmp_path / "whole")
    assert heats == sorted(heats, reverse=True)
    assert (heats[0], heats[-1]) == (1.0, 0.25)  # 14 updates, of which the first 7 change it
    assert 1.0 - 0.75 * 4 / 7 in [pytest.approx(heat) for heat in heats]

    monkeypatch.setattr(training_loop.TrainingLoop, "_collect", count)
    with monkeypatch.context() as patch:
        patch.setattr(interruption, "watched", Watch)
        with pytest.raises(interruption.Interrupted):
            transfer.run(study, inputs("scratch"), tmp_path / "stopped")
    assert collected[-1] < 80
    kept = checkpoints.restore_progress(checkpoints.find(tmp_path / "stopped"))[0]
    errors = Priorities(2, study.replay)
    errors.restore(kept["replay"]["priorities"])
    known = np.concatenate(errors._errors)
    assert 2 < np.isfinite(known).sum() <= 2 * 2 * 4  # two calls of two batches of four
    assert (known >= 0).all()
    transfer.run(study, inputs("scratch"), tmp_path / "stopped")
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")
    assert rows(tmp_path / "stopped") == rows(tmp_path / "whole")
    kept = checkpoints.restore_progress(checkpoints.find(tmp_path / "stopped"))[0]
    same = checkpoints.restore_progress(checkpoints.find(tmp_path / "whole"))[0]
    assert kept["replay"]["priorities"] == same["replay"]["priorities"]
