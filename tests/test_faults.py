"""Faults of the simulator through whole jobs: told, dropped, and the job goes on or ends."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import checkpoints, transfer
from stages.replay import Replay
from stages.training_loop import TrainingError
from tests import tiny

FAULTY = """
import os, signal, time
from pathlib import Path
import gymnasium, numpy as np
from gymnasium.spaces import Box

FAULT = Path(__file__).with_name("fault")  # holds what shall go wrong, once
COUNT = [0]


class Faulty(gymnasium.Env):
    '''The state is (step, a number of the episode); it fails at the fourth step of an episode.'''

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Box(-1, 1, (1,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x = 0, self.np_random.uniform(1, 2)
        return np.array([self.t, self.x], np.float32), {}

    def step(self, action):
        self.t += 1
        COUNT[0] += 1
        state, reward = np.array([self.t, self.x], np.float32), 0.5
        if self.t == 4 and COUNT[0] > 16 and FAULT.exists():
            fault = FAULT.read_text()
            FAULT.rename(FAULT.with_name(f"{self.x!r}"))
            if fault == "raise":
                raise ValueError("the gripper is stuck")
            if fault == "exit":
                raise SystemExit(0)
            if fault == "hang":
                time.sleep(1000)
            if fault == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "state":
                state[1] = np.nan
            if fault == "reward":
                reward = np.nan
        return state, reward, False, False, {"success": False}


class Worn(Faulty):
    '''Fails at every step once it has made a number of them.'''

    def step(self, action):
        if COUNT[0] > 60:
            raise OSError("no licence")
        return super().step(action)
"""
STEPS, LENGTH = 80, 10
CAUSES = {
    "raise": "ValueError: the gripper is stuck",
    "exit": "SystemExit: 0",
    "state": "state is not a finite number",
    "reward": "reward is not a finite number",
    "hang": "worker 0 hung: no answer for",
    "die": "worker 0 died (signal 9)",
}


def run(folder: Path, name: str, **training: Any) -> Path:
    """A whole fine-tuning of the task `name` in `folder`."""
    study = tiny.study(name, transfer={"steps": STEPS}, training=training)
    return transfer.run(study, transfer.Inputs(name, "scratch", 0), folder / "job")


@pytest.mark.parametrize(
    ("fault", "workers"),
    [
        *((fault, 0) for fault in ("raise", "exit", "state", "reward")),
        *((fault, 1) for fault in CAUSES),
    ],
)
def test_a_fault_costs_its_episode_and_the_job_goes_on(
    fault: str, workers: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    (tmp_path / "fault").write_text(fault)
    name = f"{tmp_path / 'faulty.py'}:Faulty"
    with caplog.at_level(logging.WARNING, "craik.tasks"):
        folder = run(tmp_path, name, workers=workers, step_timeout=1.0)
    (line,) = [text for text in caplog.messages if "was abandoned" in text]
    place = r"environment \d \(seed \d+, episode \d+ from reset seed \d+, step 4\)"
    assert re.match(rf"task {re.escape(name)}: {place} was abandoned: ", line)
    assert CAUSES[fault] in line
    assert "\n" not in line

    # who lives in another process loses the episodes of all environments there
    progress, tails = checkpoints.restore_progress(checkpoints.find(folder))
    dropped = [pair for row in progress["replay"]["streams"] for pair in row["dropped"]]
    assert [end - begin for begin, end in dropped] == [4] * (2 if fault in ("hang", "die") else 1)
    (lost,) = (float(p.name.split("(")[-1].strip(")")) for p in tmp_path.glob("*1.*"))
    drawn = _drawn(folder, progress, tails)
    assert not np.isclose(drawn, lost, atol=1e-6).any()
    assert len(np.unique(drawn)) > 6

    # and all that is counted is right
    metrics = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in metrics if row["kind"] == "train"][-1]
    rows = sum(row["length"] for row in progress["replay"]["streams"])
    assert progress["counters"]["env_steps"] == last["env_steps"]
    firsts = rows + 2 - last["env_steps"]  # rows that are no env steps, the present ones too
    episodes = [row for row in metrics if row["kind"] == "episode"]
    assert {row["length"] for row in episodes} == {LENGTH}
    assert {row["return"] for row in episodes} == {0.5 * LENGTH}
    just_ended = sum(length == LENGTH for *_, length in progress["episodes"])
    assert firsts == 2 + len(episodes) + len(dropped) - just_ended
    assert last["updates"] == pytest.approx((last["env_steps"] - 24) / 4, abs=2)


def _drawn(folder: Path, progress: dict[str, Any], tails: np.ndarray) -> np.ndarray:
    """The episodes' numbers of very many rows drawn from a job's replay."""
    row = {
        name: np.zeros(tails.dtype[name].shape, tails.dtype[name].base)
        for name in tails.dtype.names or ()
    }
    replay = Replay(row, 2, tiny.study().replay, folder / "replay")
    replay.restore(progress["replay"], tails, clean=False)
    return replay.sample(np.random.default_rng(0), (2000,), 2)["state"][..., 1].ravel()


@pytest.mark.parametrize("begun", [True, False])
def test_faults_without_end_end_the_job_and_name_the_last_checkpoint(
    begun: bool, tmp_path: Path
) -> None:
    text = FAULTY if begun else FAULTY.replace("COUNT[0] > 60", "True")
    (tmp_path / "faulty.py").write_text(text)
    with pytest.raises(TrainingError) as caught:
        run(tmp_path, f"{tmp_path / 'faulty.py'}:Worn", checkpoint_minutes=1e-9)
    line = str(caught.value)
    assert "10 faults within 1000 steps, giving up; last: task " in line
    assert "OSError: no licence" in line
    good = checkpoints.latest(tmp_path / "job" / "checkpoint")
    assert (good is not None) == begun
    said = f"the last good checkpoint is {good}" if begun else "there is no checkpoint yet"
    assert line.endswith(said)
    assert "\n" not in line
