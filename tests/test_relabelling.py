"""Zero-shot: an exploration's replay paid afterwards, and components that learn from it alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.jobs import build
from pipeline.settings import load_study
from stages import checkpoints, evaluate, explore, interruption, training_loop, transfer
from stages.settings import Arm, Study
from tests import tiny
from tests.test_replay import build as build_replay
from tests.test_replay import fill

TASK = "desk/reach:dense"
UPDATES = 12


def study(**arm: Any) -> Study:
    row = {"carry": ("world_model",), "relabelled_updates": UPDATES} | arm
    plain = tiny.study(planning={"samples": 16, "elites": 4, "horizon": 2})
    arms = {"zero": Arm.model_validate(row)}
    return plain.model_copy(update={"transfer": plain.transfer.model_copy(update={"arms": arms})})


def digests(folder: Path) -> dict[str, str]:
    return {name: row["digest"] for name, row in checkpoints.components(folder).items()}


def lines(path: Path, kind: str | None = None) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in found if kind is None or row["kind"] == kind]


@pytest.fixture(scope="module")
def exploration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return explore.run(tiny.study(), explore.Inputs(0), tmp_path_factory.mktemp("explore"))


@pytest.fixture(scope="module")
def zero(exploration: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    inputs = transfer.Inputs(TASK, "zero", 0, exploration)
    return transfer.run(study(evaluate="mppi"), inputs, tmp_path_factory.mktemp("zero"))


def moved(folder: Path) -> set[str]:
    start, end = digests(folder / "start"), digests(folder)
    return {name for name in start if start[name] != end[name]}


def test_a_replay_is_paid_afterwards(tmp_path: Path) -> None:
    """Episodes of ten steps in chunks of eight, some on disk, the first ones gone."""
    chunks = 2 * 8 * 17 * 5  # bytes of ten chunks
    replay = build_replay(tmp_path, memory_gib=chunks / 2**30, disk_gib=chunks / 2**30)
    replay.dtype = np.dtype([*replay.dtype.descr, ("reward", np.float32)])
    replay._chunk_bytes = replay.dtype.itemsize * 8
    seen: list[np.ndarray] = []

    def add(t: int) -> None:
        rows = {"x": np.tile(np.float32([t, 0]), (2, 1)), "stream": np.arange(2)}
        rows |= {"is_first": np.full(2, t % 10 == 0), "reward": np.full(2, -1.0)}
        replay.append(rows, np.zeros(2, bool))

    for t in range(61):
        add(t)
    assert replay.streams[0].base > 0

    def label(rows: Any) -> np.ndarray:
        seen.append(rows["x"][:, 0])
        return (rows["x"][:, 0] + 100 * rows["stream"]).astype(np.float32)

    replay.relabel(label)
    batch = replay.sample(np.random.default_rng(0), (200,), 7)
    assert np.array_equal(batch["reward"], batch["x"][..., 0] + 100 * batch["stream"])
    lengths = [len(steps) for steps in seen]
    assert lengths[1:-1].count(10) >= len(lengths) - 4  # whole episodes, but for the ends
    assert all((np.diff(steps) == 1).all() for steps in seen)
    assert all((steps[1:] % 10 != 0).all() for steps in seen)


def test_a_plain_replay_keeps_its_rewards(tmp_path: Path) -> None:
    replay = build_replay(tmp_path)
    fill(replay, 20)
    assert all(stream.rewards is None for stream in replay.streams)


def test_the_reward_head_alone_learns_and_no_env_step_is_taken(
    zero: Path, exploration: Path
) -> None:
    assert moved(zero) == {"reward_head"}
    source, start = digests(exploration), digests(zero / "start")
    assert {n for n in start if start[n] == source[n]} == {"encoder", "dynamics", "decoder"}
    assert not lines(zero / "metrics.jsonl", "episode")
    assert not list((zero / "replay").glob("*"))
    trained = lines(zero / "metrics.jsonl", "train")[-1]
    assert (trained["env_steps"], trained["updates"]) == (0, UPDATES)
    points = lines(zero / "metrics.jsonl", "evaluation")
    assert [(row["env_steps"], row["updates"]) for row in points] == [(0, UPDATES)]


def test_what_it_learns_is_what_the_task_pays(exploration: Path, tmp_path: Path) -> None:
    """The mean reward that the head foretells comes from zero to what was paid on average."""
    long = study(relabelled_updates=200)
    fast = long.training.model_copy(update={"model_learning_rate": 3e-3})
    inputs = transfer.Inputs(TASK, "zero", 0, exploration)
    transfer.run(long.model_copy(update={"training": fast}), inputs, tmp_path)
    rows = lines(tmp_path / "metrics.jsonl", "train")
    assert rows[-1]["loss/reward"] < 0.7 * np.log(tiny.MODEL.bins)
    imagined = rows[-1]["reward/imagined"] / (1 - long.behaviour.discount)
    assert 0.05 < imagined < 0.9


def test_the_policy_may_learn_in_imagination(exploration: Path, tmp_path: Path) -> None:
    inputs = transfer.Inputs(TASK, "zero", 0, exploration)
    transfer.run(study(learn=("reward_head", "actor", "critic")), inputs, tmp_path)
    assert moved(tmp_path) == {"reward_head", "actor", "critic"}


@pytest.mark.slow
@pytest.mark.parametrize("world_model", ["muzero", "none"])
def test_other_families_leave_the_rest_as_it_is(world_model: str, tmp_path: Path) -> None:
    """Slow copies, too: they belong to their components."""
    settings: dict[str, Any] = {
        "agent": {"world_model": world_model},
        "muzero": tiny.MUZERO.model_dump(),
        "learning": tiny.LEARNING.model_dump(),
        "planning": {"search": tiny.SEARCH.model_dump()},
        "explore": {"steps": 48},
    }
    plain = tiny.study(**settings)
    learn = ("reward_head",) if world_model == "muzero" else ("actor", "critic")
    carry = ("world_model",) if world_model == "muzero" else ("encoder",)
    arm = Arm(carry=carry, relabelled_updates=2, learn=learn)
    tuned = plain.transfer.model_copy(update={"arms": {"zero": arm}})
    explored = explore.run(plain, explore.Inputs(0), tmp_path / "explore")
    inputs = transfer.Inputs(TASK, "zero", 0, explored)
    transfer.run(plain.model_copy(update={"transfer": tuned}), inputs, tmp_path / "zero")
    assert moved(tmp_path / "zero") == set(learn)


def test_a_stopped_one_ends_like_an_undisturbed_one(
    zero: Path, exploration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def train(loop: training_loop.TrainingLoop) -> None:
        whole(loop)
        done.append(loop.counters.updates)

    class Watch:
        def __enter__(self) -> Any:
            return lambda: len(done) >= 2

        def __exit__(self, *_: object) -> None:
            pass

    whole = training_loop.TrainingLoop._train
    inputs = transfer.Inputs(TASK, "zero", 0, exploration)
    monkeypatch.setattr(training_loop.TrainingLoop, "_train", train)
    monkeypatch.setattr(interruption, "watched", Watch)
    with pytest.raises(interruption.Interrupted):
        transfer.run(study(evaluate="mppi"), inputs, tmp_path)
    monkeypatch.undo()
    assert 0 < done[-1] < UPDATES
    transfer.run(study(evaluate="mppi"), inputs, tmp_path)
    assert digests(tmp_path) == digests(zero)
    ours, theirs = (lines(f / "metrics.jsonl", "train") for f in (tmp_path, zero))
    assert ours == theirs


def test_an_arm_has_its_own_planner_at_evaluation(zero: Path, tmp_path: Path) -> None:
    evaluate.run(study(evaluate="cem"), evaluate.Inputs(TASK, "zero", 0, zero), tmp_path)
    assert {row["planner"] for row in lines(tmp_path / "episodes.jsonl")} == {"cem"}


# In a study


ZERO = 'transfer.arms.zero={carry=["world_model"], relabelled_updates=300'


def test_jobs_take_no_env_steps_and_plain_arms_are_what_they_were() -> None:
    plain = build(load_study("desk", None, ()).variants).jobs
    both = build(load_study("desk", None, [f'{ZERO}, evaluate="mppi"}}']).variants).jobs
    assert all(both[id].digest == job.digest for id, job in plain.items())
    id = "transfer/desk-push_left-sparse/zero/seed-0"
    job = both[id]
    assert (job.env_steps, job.relabelled_updates) == (0, 300)
    assert job.inputs == ("explore/seed-0",)
    judged = both[id.replace("transfer", "evaluate")]
    assert judged.settings["planning.evaluate"] == "mppi"
    assert "planning.samples" in judged.settings
    # who plans at the evaluation is no matter of the training
    other = build(load_study("desk", None, [f"{ZERO}}}"]).variants).jobs
    assert other[id].digest == job.digest
    assert other[judged.id].digest != judged.digest
    longer = build(load_study("desk", None, [f"{ZERO}0}}"]).variants).jobs
    assert longer[id].digest != job.digest
    small = load_study("desk", "smoke", [f"{ZERO}}}"]).first.transfer.arms["zero"]
    assert small.relabelled_updates == 300  # --set is stronger than a preset


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ([f"{ZERO}, prior_steps=5}}"], ["prior_steps = 5", "no env steps"]),
        ([f"{ZERO}, equal_total=true}}"], ["equal_total = true", "no env steps"]),
        ([f"{ZERO}, learn=[]}}"], ["learn = []", "name the components"]),
        ([f'{ZERO}, learn=["explorer"]}}'], ["learn", "explorer", "no such component"]),
        ([f'{ZERO}, learn=["reward"]}}'], ["learn", "did you mean reward_head"]),
        (['transfer.arms.a={learn=["actor"]}'], ["learn", "set relabelled_updates"]),
        ([f"{ZERO}}}", "explore.steps=0"], ["it needs an exploration", "explore.steps = 0"]),
        ([f"{ZERO}}}", "tasks.action_repeat=2"], ["zero", "desk/push_left:sparse", "not tell"]),
        (['transfer.arms.a={evaluate="mpc"}'], ["evaluate", "mppi"]),
    ],
)
def test_mistakes_are_one_line(
    mistake: Any, tmp_path: Path, options: list[str], parts: list[str]
) -> None:
    sets = [part for option in options for part in ("--set", option)]
    line = mistake("run", "desk", "--out", str(tmp_path / "run"), *sets)
    assert all(part in line for part in parts), line
    assert not (tmp_path / "run").exists()
