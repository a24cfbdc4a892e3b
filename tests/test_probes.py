"""The Dreamer-style agent solves probe tasks, each of which isolates one ability
(`tests/probes.py`)."""

import pytest

from stages.settings import Study
from tests.abilities import Abilities
from tests.probe_runs import KINDS, Runs, probe_study

pytestmark = pytest.mark.slow

STEPS = {"read": 4000, "recall": 6000}  # others: 2400
# What a cue and a choice are worth together shows in neither alone: a plateau, on which small
# batches, whose gradients drown in noise, may stay for thousands of updates. (batch size, weight of
# the reward's loss), others (16, 3)
PLATEAUS = {"read": (64, 3), "recall": (64, 30)}


def study_of(ability: str, task: str, discount: float) -> Study:
    batch_size, reward_scale = PLATEAUS.get(ability, (16, 3))
    return probe_study(
        task,
        discount,
        STEPS.get(ability, 2400),
        model={"recurrent": 64, "latents": 8, "classes": 8, "reward_scale": reward_scale},
        behaviour={"imagination_starts": 64, "imagination_horizon": 5, "reward_unit": "1"},
        training={"batch_size": batch_size},
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(study_of, tmp_path_factory.mktemp)


@pytest.mark.parametrize("kind", KINDS)
class TestDreamer(Abilities):
    """All abilities."""
