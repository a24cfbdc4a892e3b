"""Crafter: survive and achieve in a procedural world, from pixels or from symbols.

`crafter/reward` is the published benchmark; `crafter/free` is the same world without rewards, to
explore in. Source: Hafner, Benchmarking the Spectrum of Agent Capabilities (ICLR 2022),
crafter 1.8.3 with the repairs of `tasks.crafter_world`.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from tasks import crafter_symbolic
from tasks.contract import SpecExtras
from tasks.settings import TaskOptions
from tasks.suite import Suite

EPISODE_LENGTH = 10_000
ACTIONS = 17
ACHIEVEMENTS = (
    "collect_coal",
    "collect_diamond",
    "collect_drink",
    "collect_iron",
    "collect_sapling",
    "collect_stone",
    "collect_wood",
    "defeat_skeleton",
    "defeat_zombie",
    "eat_cow",
    "eat_plant",
    "make_iron_pickaxe",
    "make_iron_sword",
    "make_stone_pickaxe",
    "make_stone_sword",
    "make_wood_pickaxe",
    "make_wood_sword",
    "place_furnace",
    "place_plant",
    "place_stone",
    "place_table",
    "wake_up",
)


def crafter_score(success_rates_percent: Sequence[float] | np.ndarray) -> float:
    """The Crafter score in percent: exp(mean over achievements of ln(1 + s)) - 1.

    Args:
        success_rates_percent: for each achievement the share of episodes, 0 to 100, that have it.

    Raises:
        ValueError: there are none, or one is not a percentage.
    """
    rates = np.asarray(success_rates_percent, np.float64)
    if rates.size == 0 or not np.all((rates >= 0) & (rates <= 100)):
        raise ValueError(f"success rates must be percentages from 0 to 100, got {rates}")
    return float(np.exp(np.mean(np.log1p(rates))) - 1)


class CrafterEnv(gymnasium.Env):
    """Crafter behind the task contract.

    Observations: `state` float32 [1345] (`tasks.crafter_symbolic`), `image` uint8 [S, S, 3].
    Actions: one of 17. Death terminates; 10,000 steps truncate. `info["success"]` is true once
    all 22 achievements are unlocked in this episode.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, rewarded: bool, options: TaskOptions):
        from tasks.crafter_world import Simulator  # imports the package, which takes seconds

        self._simulator = Simulator(EPISODE_LENGTH)
        self._rewarded = rewarded
        self._options = options
        box = gymnasium.spaces.Box
        spaces: dict[str, gymnasium.Space] = {}
        if "state" in options.observe:
            spaces["state"] = box(0, 1, (crafter_symbolic.SIZE,), np.float32)
        if "image" in options.observe:
            spaces["image"] = box(0, 255, (options.image_size, options.image_size, 3), np.uint8)
        spaces["log/position"] = box(0, 1, (2,), np.float32)
        spaces["log/achievements"] = box(0, np.inf, (len(ACHIEVEMENTS),), np.float32)
        self.observation_space = gymnasium.spaces.Dict(spaces)
        self.action_space = gymnasium.spaces.Discrete(ACTIONS)
        self.episode_length = EPISODE_LENGTH
        self.spec_extras = SpecExtras(metric="score", achievements=ACHIEVEMENTS)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin the world of `seed`; without one, of a seed drawn from the last."""
        super().reset(seed=seed)
        world_seed = int(self.np_random.integers(2**31 - 1)) if seed is None else seed
        self._simulator.start(world_seed)
        return self.observe(), {"success": False}

    def step(
        self, action: int | np.integer
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: int | np.integer) -> tuple[float, bool, bool, dict[str, Any]]:
        """A step without its observation, so that repeated actions draw one picture only."""
        earned = self._simulator.advance(int(action))
        player = self._simulator.player
        dead = bool(player.health <= 0)
        over = self._simulator.steps >= EPISODE_LENGTH
        info = {"success": all(count > 0 for count in player.achievements.values())}
        return earned if self._rewarded else 0.0, dead, over and not dead, info

    def observe(self) -> dict[str, np.ndarray]:
        """The observation of the present state."""
        simulator, player = self._simulator, self._simulator.player
        counts = (player.achievements[name] for name in ACHIEVEMENTS)
        observation = {
            "log/position": (player.pos / (np.array(simulator.world.area) - 1)).astype(np.float32),
            "log/achievements": np.fromiter(counts, np.float32, len(ACHIEVEMENTS)),
        }
        if "state" in self._options.observe:
            observation["state"] = crafter_symbolic.observe(simulator.world, player)
        if "image" in self._options.observe:
            observation["image"] = simulator.picture(self._options.image_size)
        return observation

    def render(self) -> np.ndarray:
        """The screen, uint8 [video_size, video_size, 3]."""
        return self._simulator.picture(self._options.video_size)


def make(task: str, variant: str, options: TaskOptions) -> gymnasium.Env:
    """Build `crafter/reward` or `crafter/free`."""
    return CrafterEnv(rewarded=task == "reward", options=options)


SUITE = Suite(
    name="crafter",
    description="survive, gather, craft and fight in a procedural two-dimensional world",
    tasks={
        "reward": "1 for each achievement unlocked for the first time, 0.1 per point of health",
        "free": "the same world without rewards, to explore in",
    },
    make=make,
)
