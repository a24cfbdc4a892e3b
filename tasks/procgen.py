"""`procgen`: sixteen games whose levels are made by a seed, as `procgen/GAME[:easy|hard]`.

Source: Cobbe et al., Leveraging Procedural Generation to Benchmark Reinforcement Learning (2020),
through EnvPool. `image` only: [64, 64, 3], scaled to `image_size`. Actions: 15 buttons; several do
nothing in most games, and none is masked.

An episode is a level: with `levels = N` one of the seeds below N, without it one of two thousand
millions that `levels` can never choose. Completing a level is success. A loss in the very last step
of a game's time counts as truncation: EnvPool does not tell the two apart.
"""

from collections.abc import Sequence

import numpy as np
from gymnasium.spaces import Dict, Discrete

from tasks.adapters import image_space
from tasks.contract import SpecExtras
from tasks.envpool_pools import Pools, Recipe, Seen
from tasks.envpool_task import SEEDS, EnvPoolTask, Rows, endings, missing, scaled, single
from tasks.settings import MOST_LEVELS, TaskOptions
from tasks.suite import Suite

CHOICES = 15
VARIANTS = ("easy", "hard")
GAMES = {  # what is asked for, and the steps until time is up
    "bigfish": ("eat smaller fish, escape larger ones", 6000),
    "bossfight": ("destroy a star ship whose shields come and go", 4000),
    "caveflyer": ("fly through caves to a ship", 1000),
    "chaser": ("eat all orbs of a maze, chased", 1000),
    "climber": ("climb platforms and collect stars", 1000),
    "coinrun": ("run and jump to the coin at the far right", 1000),
    "dodgeball": ("hit enemies with balls, then leave", 1000),
    "fruitbot": ("collect fruit, avoid what is none", 1000),
    "heist": ("steal the gem behind locked doors", 1000),
    "jumper": ("find the carrot with double jumps and a compass", 1000),
    "leaper": ("cross a road and a river", 500),
    "maze": ("find the cheese", 500),
    "miner": ("dig for diamonds under boulders, then leave", 1000),
    "ninja": ("jump over ledges to the mushroom", 1000),
    "plunder": ("sink enemy ships, spare friends", 4000),
    "starpilot": ("shoot and dodge in a side scroller", 1000),
}


class ProcgenTask(EnvPoolTask):
    """One game."""

    def __init__(self, task: str, variant: str, options: TaskOptions) -> None:
        super().__init__(options)
        self._id = f"{task.capitalize()}{variant.capitalize()}-v0"
        self.observation_space = Dict({"image": image_space(options.image_size)})
        self.action_space = Discrete(CHOICES)
        self.episode_length = GAMES[task][1]
        # of few levels two seeds may draw the same
        self.spec_extras = SpecExtras(
            variant={"procgen": variant}, start_jitter=options.levels is None
        )

    def recipe(self, seed: int) -> Recipe:
        """The level is drawn by EnvPool, from those that are allowed."""
        low, number = level_range(self.options.levels)
        config = (("start_level", low), ("num_levels", number), ("channel_first", False))
        return Recipe(self._id, int(np.random.default_rng(seed).integers(SEEDS)), config)

    def read(self, seen: Seen, indices: Sequence[int]) -> Rows:
        complete = seen["done"] & (seen["info.prev_level_complete"] > 0)
        return {
            "image": scaled(seen["obs"], self.options.image_size),
            "reward": seen["reward"],
            "success": complete,
            **endings(seen, self.episode_length, over=complete),
        }

    def frames(self, pools: Pools, indices: Sequence[int]) -> np.ndarray:
        return scaled(pools.last(indices)["obs"], self.options.video_size)


def level_range(levels: int | None) -> tuple[int, int]:
    """The first level seed, and how many there are: N for training, or all that training cannot
    choose."""
    return (0, levels) if levels is not None else (MOST_LEVELS, 2**31 - 1 - MOST_LEVELS)


SUITE = Suite(
    name="procgen",
    description="sixteen games with levels by seed, pictures only (extra envpool)",
    tasks={name: description for name, (description, _) in GAMES.items()},
    variants=VARIANTS,
    make=single(ProcgenTask),
    envpool=ProcgenTask,
    missing=missing,
    observes=("image",),
    levels=tuple(GAMES),
)
