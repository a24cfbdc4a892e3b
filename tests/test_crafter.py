"""Crafter: reproducible worlds, what the symbols say, the pictures, the score."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks import crafter_symbolic
from tasks.crafter import ACHIEVEMENTS, CrafterEnv, crafter_score, make
from tasks.settings import TaskOptions

STATE = TaskOptions()
BOTH = TaskOptions(observe=("state", "image"))

ROLLOUT = """
import sys
from tests.test_crafter import rollout_digest
print(rollout_digest(int(sys.argv[1]), image=sys.argv[2] == "image"))
"""


def rollout_digest(seed: int, image: bool = False, steps: int = 400) -> str:
    """Hash of all states and rewards under random actions (episodes included)."""
    env = make("reward", "", BOTH if image else STATE)
    generator = np.random.default_rng(0)
    digest = hashlib.sha256()
    observation, _ = env.reset(seed=seed)
    for step in range(steps):
        observation, reward, terminated, truncated, _ = env.step(int(generator.integers(17)))
        digest.update(observation["state"].tobytes() + np.float64(reward).tobytes())
        if terminated or truncated:
            observation, _ = env.reset(seed=seed + step + 1)
    return digest.hexdigest()


def run_elsewhere(hash_seed: str, view: str) -> str:
    root = Path(__file__).parent.parent
    code = ROLLOUT.replace("from tests.test_crafter", "from test_crafter")
    path = os.pathsep.join([str(root), str(root / "tests")])
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code, "3", view],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_same_seed_and_actions_are_equal_across_processes() -> None:
    here = rollout_digest(3)
    assert run_elsewhere("1", "state") == here
    # other addresses, another hash seed, and drawing the night's noise: nothing of it matters
    assert run_elsewhere("2", "image") == here
    assert rollout_digest(4) != here


def test_crafter_score_by_hand() -> None:
    assert crafter_score([0.0] * 22) == pytest.approx(0)
    assert crafter_score([100.0] * 22) == pytest.approx(100)
    assert crafter_score([3.0, 8.0]) == pytest.approx(5.0)  # sqrt(4 * 9) - 1
    with pytest.raises(ValueError, match="percentages"):
        crafter_score([101.0])
    with pytest.raises(ValueError, match="percentages"):
        crafter_score([])


def test_achievements_are_the_package_s_own() -> None:
    from tasks.crafter_world import constants

    assert tuple(constants.achievements) == ACHIEVEMENTS
    assert len(constants.actions) == 17
    assert len(constants.materials) == crafter_symbolic.MATERIALS
    assert len(constants.items) == crafter_symbolic.INVENTORY


def test_worlds_equal_the_package_s() -> None:
    from tasks.crafter_world import Simulator, crafter

    ours = Simulator()
    for seed in range(6):
        stock = crafter.Env(seed=seed)
        stock.reset()
        ours.start(seed)
        np.testing.assert_array_equal(ours.world._mat_map, stock._world._mat_map)
        things = [
            [(type(thing), tuple(thing.pos)) for thing in world.objects]
            for world in (ours.world, stock._world)
        ]
        assert things[0] == things[1]
        # and the stream of random numbers goes on from the same place
        assert ours.world.random.uniform() == stock._world.random.uniform()
        assert ours.world.daylight == stock._world.daylight


def test_pictures_equal_the_package_s() -> None:
    from tasks.crafter_world import crafter, engine

    env = CrafterEnv(True, TaskOptions(observe=("image",)))
    env.reset(seed=5)
    simulator = env._simulator
    stock = engine.LocalView(simulator.world, simulator._textures, [9, 7])
    rng = np.random.default_rng(1)
    for _ in range(60):
        observation, *_, terminated, _, _ = env.step(int(rng.integers(1, 5)))
        assert not terminated
        unit = np.array([64, 64]) // 9
        want = crafter.Env.render(_with_view(simulator, stock))
        np.testing.assert_array_equal(observation["image"], want)
        assert unit.tolist() == [7, 7]


def _with_view(simulator, view):  # type: ignore[no-untyped-def]
    import copy

    other = copy.copy(simulator)
    other._local_view = view
    return other


def test_drawing_changes_nothing_and_repeats() -> None:
    env = CrafterEnv(True, BOTH)
    env.reset(seed=2)
    env._simulator._step = 209  # the darkest hour: noise
    observation, *_ = env.step(0)
    before = env._simulator.world.random.get_state()[1].copy()
    np.testing.assert_array_equal(env._simulator.picture(64), observation["image"])
    np.testing.assert_array_equal(env.render(), env.render())
    np.testing.assert_array_equal(env._simulator.world.random.get_state()[1], before)
    assert env.render().shape == (200, 200, 3)


def test_symbols_say_what_stands_where() -> None:
    env = CrafterEnv(True, STATE)
    observation, _ = env.reset(seed=0)
    world, player = env._simulator.world, env._simulator.player
    assert observation["state"].shape == (1345,)
    assert observation["state"].dtype == np.float32
    from tasks.crafter_world import constants, crafter

    x, y = player.pos
    world[x + 1, y] = "table"
    if world[x - 1, y][1] is None:
        world.add(crafter.objects.Zombie(world, (x - 1, y), player))
    state = crafter_symbolic.observe(world, player)
    cells = state[: 9 * 7 * 21].reshape(9, 7, 21)
    assert cells[5, 3, constants.materials.index("table")] == 1
    assert cells[3, 3, 12 + crafter_symbolic.CREATURES.index("zombie")] == 1
    assert cells[..., :12].sum() == 63  # one material each
    rest = state[9 * 7 * 21 :]
    np.testing.assert_allclose(rest[:4], 1)  # health, food, drink, energy at 9 of 9
    assert rest[16:20].sum() == 1
    assert rest[20] == pytest.approx(world.daylight)


def test_symbols_at_the_edge_of_the_world() -> None:
    env = CrafterEnv(True, STATE)
    env.reset(seed=0)
    world, player = env._simulator.world, env._simulator.player
    for corner, outside in [((0, 0), (0, 0)), ((63, 63), (8, 6))]:
        if world[corner][1] is None:
            world.move(player, corner)
        cells = crafter_symbolic.observe(world, player)[: 9 * 7 * 21].reshape(9, 7, 21)
        assert cells[outside].sum() == 0
        assert cells[4, 3].sum() == 1
        assert cells[..., :12].sum() == 5 * 4


def test_death_terminates_and_ten_thousand_steps_truncate() -> None:
    env = CrafterEnv(True, STATE)
    env.reset(seed=0)
    env._simulator.player.health = 0
    _, reward, terminated, truncated, info = env.step(0)
    assert (terminated, truncated) == (True, False)
    assert reward == pytest.approx(-0.9)
    assert info["success"] is False
    env.reset(seed=0)
    env._simulator._step = 9_999
    *_, terminated, truncated, _ = env.step(0)
    assert (terminated, truncated) == (False, True)


def test_free_pays_nothing_and_still_counts_achievements() -> None:
    rewarded, free = CrafterEnv(True, STATE), CrafterEnv(False, STATE)
    for env in (rewarded, free):
        env.reset(seed=1)
        env._simulator.player.inventory["sapling"] = 1
        env._simulator._player.facing = (0, 1)
        x, y = env._simulator.player.pos
        env._simulator.world[x, y + 1] = "grass"
    place = 10
    first, reward, *_ = rewarded.step(place)
    second, nothing, *_ = free.step(place)
    assert reward == pytest.approx(1.0)
    assert nothing == 0
    for observation in (first, second):
        assert observation["log/achievements"][ACHIEVEMENTS.index("place_plant")] == 1
    assert np.all((first["log/position"] >= 0) & (first["log/position"] <= 1))
