"""`jumanji`: a maze, Sokoban and Pac-Man on grids, as `jumanji/TASK`, through EnvPool.

Source: Bonnet et al., Jumanji (arXiv 2306.09884), reimplemented in C++ by EnvPool; its
rules are told here where they are not Jumanji's.

| task      | planes, in their order                             | choices, `mask`              |
|---|---|---|
| `maze`    | wall, target, player [10, 10]                      | up, right, down, left; walls |
| `sokoban` | wall, target, box, player [10, 10]                 | up, right, down, left        |
| `pac_man` | wall, pellet, power-up, ghost, frightened ghost,   | up, left, down, right, stay; |
|           | player [31, 28]; then the share of time that       | walls, and `stay` never      |
|           | ghosts stay frightened                             | makes sense                  |

`state` is the planes of 0 and 1, flattened (`tasks.grid_planes`), `image` the planes painted. The
steps and scores that the games tell are left out: time truncates, and is no part of the game. A
maze may box its player in; then the mask allows all, since it must leave a choice.

Levels, with `levels = N`: a maze's seed below N, or a Sokoban level below N of the 1,000 of
Boxoban's `unfiltered-test`. Without it a maze's seed is one that `levels` can never choose, and
Sokoban's level one of the last 500, so N is at most 500 there. Pac-Man has one maze. EnvPool draws
each wall of a maze alone, with probability 0.2: in about 15 of 100 the target is out of reach.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Dict, Discrete
from packaging.version import Version

from tasks.adapters import mask_space, observation_space
from tasks.contract import MASK, SpecExtras, TaskError
from tasks.envpool_pools import Pools, Recipe, Seen
from tasks.envpool_task import SEEDS, EnvPoolTask, Rows, endings, missing, single
from tasks.grid_planes import Look, flat, marks, paint
from tasks.settings import MOST_LEVELS, TaskOptions
from tasks.suite import Suite

WALL, TARGET = ((92, 104, 132), 1.0), ((64, 190, 110), 1.0)
BOX, PLAYER = ((205, 133, 63), 0.7), ((90, 170, 255), 0.7)
PELLET, POWER_UP = ((240, 200, 80), 0.6), ((255, 140, 0), 0.7)
GHOST, FRIGHTENED = ((226, 72, 72), 0.9), ((150, 120, 255), 0.9)
SOKOBAN_LEVELS = 1000
SOKOBAN_TRAINING = 500  # the first ones; the rest are never trained on
FRIGHT = 30  # steps
PAC_MAN_SINCE = "1.2.7"  # before, EnvPool's had no inner walls, and ghosts that stood still
AGENT, CRATE = 3, 4  # in Sokoban's first grid; 1 and 2 in the second are walls and targets


@dataclass(frozen=True)
class Game:
    """A task: what is seen of it and how it ends."""

    description: str
    id: str
    steps: int
    choices: int
    shape: tuple[int, int]
    planes: Callable[[Seen], np.ndarray]  # bool [n, P, H, W]
    looks: tuple[Look, ...]  # of each plane
    won: Callable[[Seen], np.ndarray]  # bool [n]
    scalars: Callable[[Seen], np.ndarray] | None = None  # float32 [n, k], after the planes


def maze_planes(seen: Seen) -> np.ndarray:
    """Wall, target, player: bool [n, 3, 10, 10]."""
    walls = seen["obs.walls"].astype(bool)
    places = (
        marks(seen[f"obs.{who}.row"], seen[f"obs.{who}.col"], walls.shape[1:])
        for who in ("target_position", "agent_position")
    )
    return np.stack([walls, *places], 1)


def sokoban_planes(seen: Seen) -> np.ndarray:
    """Wall, target, box, player: bool [n, 4, 10, 10]."""
    movable, fixed = seen["obs.grid"][..., 0], seen["obs.grid"][..., 1]
    return np.stack([fixed == 1, fixed == 2, movable == CRATE, movable == AGENT], 1)


def pac_man_planes(seen: Seen) -> np.ndarray:
    """Wall, pellet, power-up, ghost, frightened ghost, player: bool [n, 6, 31, 28].

    Places are (column, row), those of the player by the names y and x; what was eaten is put to
    the corner (0, 0), where there is a wall.
    """
    walls = seen["obs.grid"] == 0
    shape = walls.shape[1:]
    there = [seen[f"obs.{what}_locations"] for what in ("pellet", "power_up", "ghost")]
    pellets, power_ups, ghosts = (marks(at[..., 1], at[..., 0], shape) for at in there)
    pellets[:, 0, 0] = power_ups[:, 0, 0] = False
    afraid = (seen["obs.frightened_state_time"] > 0)[:, None, None]
    player = marks(seen["obs.player_locations.x"], seen["obs.player_locations.y"], shape)
    return np.stack([walls, pellets, power_ups, ghosts & ~afraid, ghosts & afraid, player], 1)


def fright(seen: Seen) -> np.ndarray:
    """The share of their time for which ghosts stay frightened: [n, 1] in [0, 1]."""
    return np.clip(seen["obs.frightened_state_time"], 0, FRIGHT)[:, None] / FRIGHT


GAMES = {
    "maze": Game(
        "come to the far corner of a maze",
        *("Jumanji/Maze-v0", 100, 4, (10, 10)),
        maze_planes,
        (WALL, TARGET, PLAYER),
        won=lambda seen: seen["reward"] > 0,
    ),
    "sokoban": Game(
        "push four boxes onto targets",
        *("Jumanji/Sokoban-v0", 120, 4, (10, 10)),
        sokoban_planes,
        (WALL, TARGET, BOX, PLAYER),
        won=lambda seen: seen["info.solved"].astype(bool),
    ),
    "pac_man": Game(
        "eat every pellet, escape four ghosts",
        *("Jumanji/PacMan-v1", 1000, 5, (31, 28)),
        pac_man_planes,
        (WALL, PELLET, POWER_UP, GHOST, FRIGHTENED, PLAYER),
        won=lambda seen: np.logical_not(pac_man_planes(seen)[:, 1].any(axis=(1, 2))),
        scalars=fright,
    ),
}
MASKED = ("maze", "pac_man")


class JumanjiTask(EnvPoolTask):
    """One game."""

    def __init__(self, task: str, variant: str, options: TaskOptions) -> None:
        super().__init__(options)
        self._task, self._game = task, GAMES[task]
        _check(task, options)
        game = self._game
        size = len(game.looks) * game.shape[0] * game.shape[1] + (game.scalars is not None)
        spaces = observation_space(options, size).spaces
        mask = {MASK: mask_space(game.choices)} if task in MASKED else {}
        self.observation_space = Dict({**spaces, **mask})
        self.action_space = Discrete(game.choices)
        self.episode_length = game.steps
        self.spec_extras = SpecExtras(
            metric="return" if task == "pac_man" else "success",
            # of few levels two seeds may draw the same; Pac-Man's ghosts wait at first
            start_jitter=options.levels is None and task != "pac_man",
        )

    def recipe(self, seed: int) -> Recipe:
        """A level; in Pac-Man what the ghosts do."""
        random = np.random.default_rng(seed)
        if self._task == "pac_man":
            return Recipe(self._game.id, int(random.integers(SEEDS)))
        level = int(random.integers(*level_range(self._task, self.options.levels)))
        if self._task == "maze":
            return Recipe(self._game.id, level)
        config = (("sokoban_level_index", level), ("base_path", _levels_folder()))
        return Recipe(self._game.id, 0, config)

    def read(self, seen: Seen, indices: Sequence[int]) -> Rows:
        planes = self._game.planes(seen)
        rows: Rows = {}
        if "state" in self.options.observe:
            more = [] if self._game.scalars is None else [self._game.scalars(seen)]
            rows["state"] = np.concatenate([flat(planes), *more], axis=1, dtype=np.float32)
        if "image" in self.options.observe:
            rows["image"] = paint(planes, self._game.looks, self.options.image_size)
        if self._task in MASKED:
            rows[MASK] = allowed(seen["obs.action_mask"])
        won = self._game.won(seen)
        rows |= {"reward": seen["reward"], "success": won}
        return rows | endings(seen, self.episode_length, over=won)

    def frames(self, pools: Pools, indices: Sequence[int]) -> np.ndarray:
        planes = self._game.planes(pools.last(indices))
        return paint(planes, self._game.looks, self.options.video_size)


def allowed(mask: np.ndarray) -> np.ndarray:
    """A game's mask [n, choices] as bool; all where it allows nothing."""
    mask = mask.astype(bool)
    return mask | ~mask.any(-1, keepdims=True)


def level_range(task: str, levels: int | None) -> tuple[int, int]:
    """The first level and the one after the last: N for training, or what it cannot choose."""
    if levels is not None:
        return 0, levels
    return (SOKOBAN_TRAINING, SOKOBAN_LEVELS) if task == "sokoban" else (MOST_LEVELS, SEEDS)


def _check(task: str, options: TaskOptions) -> None:
    """Say what cannot be had.

    Raises:
        TaskError: more levels than can be trained on.
    """
    if task == "sokoban" and (options.levels or 0) > SOKOBAN_TRAINING:
        raise TaskError(
            f"task 'jumanji/sokoban': tasks.levels = {options.levels} is more than the "
            f"{SOKOBAN_TRAINING} levels for training on"
        )


def lacking(task: str) -> str:
    """`Suite.missing`: EnvPool, or for Pac-Man an EnvPool that has the real game."""
    if task != "pac_man" or missing(task):
        return missing(task)
    found = version("envpool")
    if Version(found) >= Version(PAC_MAN_SINCE):
        return ""
    return (
        f"EnvPool {PAC_MAN_SINCE} or later (on Python 3.12 or later), found {found}, "
        "whose ghosts stand still in an empty room"
    )


def _levels_folder() -> str:
    """Where Boxoban's levels lie; elsewhere EnvPool looks in vain, and takes a level of its own.

    Raises:
        TaskError: there are none.
    """
    package: Any = importlib.import_module("envpool")
    folder = Path(package.__file__).parent
    if not (folder / "jumanji/assets/boxoban/unfiltered-test.npy").is_file():
        raise TaskError("task 'jumanji/sokoban': this EnvPool comes without Boxoban's levels")
    return str(folder)


SUITE = Suite(
    name="jumanji",
    description="a maze, Sokoban and Pac-Man on grids (extra envpool)",
    tasks={name: game.description for name, game in GAMES.items()},
    make=single(JumanjiTask),
    envpool=JumanjiTask,
    missing=lacking,
    levels=("maze", "sokoban"),
)
