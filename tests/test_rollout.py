"""Examinations of tasks whose episodes are not what they should be."""

from pathlib import Path

import pytest

from stages import rollout
from stages.rollout import Examination
from tasks import registry
from tasks.contract import TaskError
from tests import tiny

TASK = """
import gymnasium
import numpy as np


class Endless(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}
"""


def test_episodes_that_never_end_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "endless.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rollout, "ENDLESS", 40)
    name = "endless.py:Endless"

    def examine(length: int | None) -> int:
        study = tiny.study(name, tasks={"explore": name, "episode_length": length})
        spec = registry.spec(name, study.tasks)
        exam = Examination(study, name, spec, "evaluate", 2)
        try:
            return len(exam.run(exam.random_chooser()))
        finally:
            exam.close()

    assert examine(30) == 2
    with pytest.raises(TaskError, match=r"no episode has ended for 40 steps; set tasks.episode_le"):
        examine(None)
