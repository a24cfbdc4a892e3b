"""`atari`: Hero and Ms. Pacman, as `atari/GAME`, through EnvPool.

`image` only, uint8 [S, S, 3]: its three channels are the last three frames in grey, the newest
last, so that one observation shows what moves. A step holds its action for four frames of the game;
rewards are the game's own points, not clipped; a lost life ends nothing. No action is repeated by
chance, so an episode's seed decides all: it draws how long to wait before the first step, at most
30 frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium.spaces import Dict, Discrete

from tasks.adapters import image_space
from tasks.contract import SpecExtras
from tasks.envpool_pools import Pools, Recipe, Seen
from tasks.envpool_task import SEEDS, EnvPoolTask, Rows, endings, missing, single
from tasks.settings import TaskOptions
from tasks.suite import Suite

EPISODE_LENGTH = 27_000  # steps of four frames, half an hour of play
FRAMES = 3


@dataclass(frozen=True)
class Game:
    """A game: EnvPool's name and the number of its actions."""

    description: str
    id: str
    choices: int


GAMES = {
    "hero": Game("free miners: fly, shoot and blast a way", "Hero-v5", 18),
    "ms_pacman": Game("eat pellets, escape ghosts", "MsPacman-v5", 9),
}


class AtariTask(EnvPoolTask):
    """One game."""

    def __init__(self, task: str, variant: str, options: TaskOptions) -> None:
        super().__init__(options)
        self._game = GAMES[task]
        self.observation_space = Dict({"image": image_space(options.image_size)})
        self.action_space = Discrete(self._game.choices)
        self.episode_length = EPISODE_LENGTH
        self.spec_extras = SpecExtras(start_jitter=False)  # waiting is not always to be seen

    def recipe(self, seed: int) -> Recipe:
        """How long to wait is the only thing that is drawn."""
        size, video = self.options.image_size, self.options.video_size
        config = (
            *(("img_height", size), ("img_width", size), ("stack_num", FRAMES)),
            *(("gray_scale", True), ("repeat_action_probability", 0.0)),
            *(("render_mode", "rgb_array"), ("render_width", video), ("render_height", video)),
        )
        return Recipe(self._game.id, int(np.random.default_rng(seed).integers(SEEDS)), config)

    def read(self, seen: Seen, indices: Sequence[int]) -> Rows:
        return {
            "image": np.ascontiguousarray(np.moveaxis(seen["obs"], 1, -1)),
            "reward": seen["reward"],
            "success": np.zeros(len(indices), bool),
            **endings(seen, self.episode_length, over=seen["info.terminated"] > 0),
        }

    def frames(self, pools: Pools, indices: Sequence[int]) -> np.ndarray:
        return pools.render(indices)


SUITE = Suite(
    name="atari",
    description="Hero and Ms. Pacman, pictures only (extra envpool)",
    tasks={name: game.description for name, game in GAMES.items()},
    make=single(AtariTask),
    envpool=AtariTask,
    missing=missing,
    observes=("image",),
)
