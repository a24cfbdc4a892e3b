"""What every family of agents can learn from probe tasks (`tests/probes.py`)."""

from pathlib import Path

import numpy as np
import pytest

from tests.probe_runs import EACH, LAST, Runs


class Abilities:
    """Tests for a family's class to inherit, with a fixture `runs`, for the kinds of its choice."""

    @pytest.fixture(autouse=True)
    def _here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Tasks are named relative to this folder: seeds come from the name, alike anywhere."""
        monkeypatch.chdir(Path(__file__).parent)

    def test_a_constant_value(self, runs: Runs, kind: str) -> None:
        for _, found in runs.values("constant", kind):
            np.testing.assert_allclose(found, EACH, atol=0.25)

    def test_a_value_is_read_from_the_observation(self, runs: Runs, kind: str) -> None:
        for cue, found in runs.values("observed", kind):
            np.testing.assert_allclose(found, cue * EACH, atol=0.4)

    def test_a_value_is_discounted(self, runs: Runs, kind: str) -> None:
        for _, found in runs.values("delayed", kind):
            np.testing.assert_allclose(found, LAST, atol=0.1)

    def test_the_discount_decides_between_soon_and_much(self, runs: Runs, kind: str) -> None:
        assert runs.final_return("wait", kind, 0.9) > 1.8  # 2 later is worth 1.46 now
        assert runs.final_return("wait", kind, 0.5) < 1.2  # 0.25 now

    def test_an_action_that_is_always_right(self, runs: Runs, kind: str) -> None:
        assert runs.final_return("act", kind) > 7.0  # random 0, best 8

    def test_the_action_depends_on_the_observation(self, runs: Runs, kind: str) -> None:
        assert runs.final_return("read", kind) > 6.5  # random 0, best 8

    def test_a_cue_is_remembered(self, runs: Runs, kind: str) -> None:
        assert runs.final_return("recall", kind) > 0.8  # random 0, best 1
