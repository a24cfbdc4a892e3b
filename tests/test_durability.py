"""Work is never lost: full disks, torn files, losses that are no number, stops and `kill -9`."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import checkpoints, interruption, training_loop, transfer
from stages.training_loop import TrainingError
from tests import tiny

ROOT = Path(__file__).parent.parent
TASK = "desk/reach:dense"


def run(folder: Path, **training: Any) -> Path:
    """A whole job, with a checkpoint after each call."""
    study = tiny.study(TASK, training={"checkpoint_minutes": 1e-9} | training)
    return transfer.run(study, transfer.Inputs(TASK, "scratch", 0), folder)


def figures(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Components of a job's checkpoint, and its metrics without times."""
    parts = {name: row["digest"] for name, row in checkpoints.components(folder).items()}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return parts, [row for row in rows if row["kind"] != "time"]


def at_step(monkeypatch: pytest.MonkeyPatch, steps: int, do: Any) -> None:
    """Have `do()` called once so many env steps are collected, each time again."""
    collect = training_loop.TrainingLoop._collect

    def watched(loop: training_loop.TrainingLoop) -> None:
        collect(loop)
        if loop.counters.env_steps >= steps:
            do()

    monkeypatch.setattr(training_loop.TrainingLoop, "_collect", watched)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return figures(run(tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that died at 60 of 80 env steps, with two checkpoints."""
    folder = tmp_path_factory.mktemp("crashed")
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 60, lambda: os.close(10**6))
        with pytest.raises(
            TrainingError, match=r"Bad file descriptor.*the last good checkpoint is"
        ):
            run(folder)
    assert len(checkpoints.whole(folder / "checkpoint")) == 2
    return folder


@pytest.fixture
def job(crashed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(crashed, tmp_path / "job")


def cut(path: Path) -> None:
    """Leave half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "torn", ["components/actor/**/*", "training/**/*", "progress.json", "tails.npy", "metrics"]
)
def test_a_torn_file_loses_nothing(
    torn: str, job: Path, undisturbed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    last, before = checkpoints.whole(job / "checkpoint")
    if torn == "metrics":
        known = checkpoints.restore_progress(last)[0]["metrics_bytes"]
        os.truncate(job / "metrics.jsonl", known - 3)
    else:
        for path in last.glob(torn):
            if path.is_file():
                cut(path)
    with caplog.at_level(logging.WARNING, "craik.stages"):
        run(job)
    assert f"going on from {before}, the last good one" in caplog.text
    assert ("metrics.jsonl: has" in caplog.text) == (torn == "metrics")
    assert figures(job) == undisturbed
    assert len(checkpoints.whole(job / "checkpoint")) == 1


def test_a_torn_chunk_of_the_replay_is_told_and_no_checkpoint_lost(job: Path) -> None:
    kept = checkpoints.whole(job / "checkpoint")
    cut(job / "replay" / "stream-0000-chunk-000000.npy")
    with pytest.raises(TrainingError, match=r"chunk-000000.npy: has .* bytes instead of") as caught:
        run(job)
    assert str(caught.value).endswith(f"the last good checkpoint is {kept[0]}")
    assert checkpoints.whole(job / "checkpoint") == kept


def test_a_pointer_to_nothing_does_not_begin_afresh(job: Path, undisturbed: Any) -> None:
    (job / "checkpoint" / "latest").write_text("")
    lines = (job / "metrics.jsonl").read_text().splitlines()
    assert len(lines) > 3
    run(job)
    assert (job / "metrics.jsonl").read_text().splitlines()[:3] == lines[:3]
    assert figures(job) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


# Orbax leaves an event loop half closed when it cannot write
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("room", [0, 50_000])
def test_a_full_disk_costs_no_checkpoint(
    room: int, small_disk: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any room not even metrics can be written, with a little it is the checkpoint."""

    def fill() -> None:
        with (small_disk / "ballast").open("ab", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                file.truncate(file.tell() - room)

    folder = small_disk / "job"
    at_step(monkeypatch, 60, fill)
    with pytest.raises(TrainingError) as caught:
        run(folder)
    monkeypatch.undo()
    good = checkpoints.latest(folder / "checkpoint")
    assert "No space left on device" in str(caught.value)
    assert str(caught.value).endswith(f"the last good checkpoint is {good}")
    (small_disk / "ballast").unlink()
    run(folder)
    assert figures(folder) == undisturbed


def test_a_loss_that_is_no_number_spoils_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"(loss|gradient)/\w+ is (nan|inf|-inf) at up"
    ) as caught:
        run(tmp_path, model_learning_rate=1e30)
    good = checkpoints.latest(tmp_path / "checkpoint")
    assert good is not None
    assert str(caught.value).endswith(f"the last good checkpoint is {good}")
    for name in checkpoints.components(good):
        arrays = checkpoints._read_component(good, name)
        assert all(np.isfinite(array).all() for array in arrays.values()), name


@pytest.mark.parametrize("steps", [40, 80])
def test_a_stop_waits_for_no_evaluation_and_is_not_forgotten(
    steps: int, tmp_path: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 40 and at 80 env steps an evaluation is due; the last steps end the job, too."""
    at_step(monkeypatch, steps, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(interruption.Interrupted):
        run(tmp_path)
    monkeypatch.undo()
    rows = figures(tmp_path)[1]
    assert rows[-1]["kind"] != "evaluation"
    assert len([row for row in rows if row["kind"] == "evaluation"]) == steps // 40
    run(tmp_path)
    assert figures(tmp_path) == undisturbed


def test_a_second_ctrl_c_waits_for_no_checkpoint(
    tmp_path: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost by it but what came since the last checkpoint."""

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(monkeypatch, 48, twice)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    good = checkpoints.latest(tmp_path / "checkpoint")
    assert good is not None
    assert int(good.name.rsplit("-", 1)[-1]) < 48
    run(tmp_path)
    assert figures(tmp_path) == undisturbed


def test_a_stop_during_the_last_evaluation_is_not_forgotten(
    tmp_path: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, seen = transfer.summary, []

    def stopping(*arguments: Any) -> dict[str, Any]:
        seen.append(arguments)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return summary(*arguments)

    monkeypatch.setattr(transfer, "summary", stopping)
    with pytest.raises(interruption.Interrupted):
        run(tmp_path)
    run(tmp_path)
    assert figures(tmp_path) == undisturbed


def test_no_update_is_caught_up_on_after_a_stop_while_overlapping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []
    learn = training_loop.TrainingLoop._learn

    def counted(loop: training_loop.TrainingLoop) -> None:
        before = loop.counters.updates
        learn(loop)
        calls.append((loop.counters.env_steps, loop.counters.updates - before))

    monkeypatch.setattr(training_loop.TrainingLoop, "_learn", counted)
    run(tmp_path / "one", overlap=True)
    whole, calls = calls, []
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 48, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(interruption.Interrupted):
            run(tmp_path / "two", overlap=True)
    assert 0 < len(calls) < len(whole)
    run(tmp_path / "two", overlap=True)
    assert calls == whole
    assert max(updates for _, updates in calls) == 2  # one call's


# kill -9

STUDY = """
name = "tiny"
seeds = 1
tasks = { explore = "desk/free", transfer = ["desk/reach:dense"], episode_length = 10 }
model = { width = 16, layers = 1, recurrent = 16, latents = 4, classes = 4, bins = 15 }
curiosity = { heads = 2, width = 16 }
replay = { chunk = 16 }
explore = { steps = 80 }
transfer = { steps = 80, arms = { both = ["world_model", "curious_policy"] } }
[behaviour]
width = 16
layers = 1
imagination_starts = 8
imagination_horizon = 3
bins = 15
[training]
environments = 2
batch_size = 4
batch_length = 8
updates_per_call = 2
prefill_steps = 24
[evaluate]
episodes = 2
curve_points = 2
curve_episodes = 2
environments = 2
video_episodes = 0
"""


def start(study: Path, out: Path) -> subprocess.Popen[bytes]:
    """The command, in a process group of its own."""
    words = ["run", str(study), "--out", str(out), "--jobs", "1"]
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *words, "--set", "training.checkpoint_minutes=1e-9"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_at(process: subprocess.Popen[bytes], moment: Any) -> None:
    """Kill all of a process group as soon as `moment()` is true."""
    deadline = time.monotonic() + 240
    while not moment():
        assert process.poll() is None, "it ended too soon"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def results(out: Path) -> dict[str, Any]:
    """All that must not differ between two runs."""
    jobs = [out / "explore/seed-0", out / "transfer/desk-reach-dense/both/seed-0"]
    found: dict[str, Any] = {str(job.relative_to(out)): figures(job) for job in jobs}
    found["start"] = checkpoints.components(jobs[1] / "start")
    found["results"] = (out / "report/results.json").read_bytes()
    return found


def test_a_study_that_is_killed_again_and_again_ends_like_an_undisturbed_one(
    tmp_path: Path,
) -> None:
    """Killed while exploring, in the middle of writing a checkpoint, and while fine-tuning."""
    study, one, two = tmp_path / "tiny.toml", tmp_path / "one", tmp_path / "two"
    study.write_text(STUDY)
    assert start(study, one).wait() == 0
    exploring = two / "explore/seed-0/checkpoint"
    tuning = two / "transfer/desk-reach-dense/both/seed-0/checkpoint"

    def steps(folder: Path) -> int:
        found = checkpoints.latest(folder)
        return int(found.name.split("-")[2]) if found else 0

    kill_at(start(study, two), lambda: steps(exploring) >= 40 and any(exploring.glob("*.partial")))
    assert 40 <= steps(exploring) < 80
    kill_at(start(study, two), lambda: steps(tuning) >= 48)
    assert 48 <= steps(tuning) < 80
    assert start(study, two).wait() == 0
    assert results(two) == results(one)
