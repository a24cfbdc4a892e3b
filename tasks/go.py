"""`go`: Go on 9 x 9 points against a weak player, as `go/9x9`, through EnvPool.

The rules are Tromp-Taylor's with 7.5 points of komi, after PGX (Koyamada et al., arXiv 2303.17503).
The agent plays one colour, drawn by the episode's seed; the other is played by `tasks.go_opponent`,
whose moves follow from the seed and the moves before. So a step is two moves, and the task is one
of a single agent, as the planners and critics here take it; it is not self-play.

`state` is 17 planes [9, 9] of 0 and 1, flattened: for each of the last eight positions the agent's
stones and the other's, the newest first, then whether the agent plays white. `image` is the board.
Actions: a point, row by row, or 81, which is to pass. `mask` says what is legal; a choice that is
not is played as a pass, since for EnvPool it would lose the game.

The reward is 1 or -1 with the last move, a win is success. After 162 moves the game is scored.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium.spaces import Dict, Discrete

from tasks.adapters import mask_space, observation_space
from tasks.contract import MASK, SpecExtras
from tasks.envpool_pools import Pools, Recipe, Seen
from tasks.envpool_task import SEEDS, EnvPoolTask, Rows, missing, single
from tasks.go_opponent import BLACK, WHITE, lead, reply
from tasks.grid_planes import flat, paint
from tasks.settings import TaskOptions
from tasks.suite import Suite

SIDE = 9
PLANES = 17
PASS = SIDE * SIDE
MOVES = 2 * SIDE * SIDE
AGENT = 0  # of EnvPool's two players
LOOKS = (((196, 148, 84), 1.0), ((20, 20, 20), 0.8), ((240, 240, 240), 0.8))  # board and stones


class GoTask(EnvPoolTask):
    """Go against `tasks.go_opponent`."""

    def __init__(self, task: str, variant: str, options: TaskOptions) -> None:
        super().__init__(options)
        spaces = observation_space(options, PLANES * SIDE * SIDE).spaces
        self.observation_space = Dict({**spaces, MASK: mask_space(PASS + 1)})
        self.action_space = Discrete(PASS + 1)
        self.episode_length = MOVES // 2  # the game is over by then
        self.spec_extras = SpecExtras(metric="success", variant={"opponent": "random"})
        self._random: dict[int, np.random.Generator] = {}  # the opponent's
        self._legal: dict[int, np.ndarray] = {}

    def recipe(self, seed: int) -> Recipe:
        """Who plays black is what EnvPool draws."""
        return Recipe("Go9x9-v1", int(np.random.default_rng(seed).integers(SEEDS)), alone=True)

    def start(self, pools: Pools, seeds: Mapping[int, int]) -> Rows:
        indices = list(seeds)
        for index, seed in seeds.items():
            self._random[index] = np.random.default_rng([seed, 1])
        seen = self._told(pools, {index: self.recipe(seed) for index, seed in seeds.items()})
        return self.read(self._answered(pools, indices, seen), indices)

    def step(self, pools: Pools, indices: Sequence[int], actions: np.ndarray) -> Rows:
        played = [
            action if self._legal[index][action] else PASS
            for index, action in zip(indices, actions.tolist(), strict=True)
        ]
        seen = pools.step(indices, np.array(played))
        return self.read(self._answered(pools, indices, seen), indices)

    def read(self, seen: Seen, indices: Sequence[int]) -> Rows:
        rows: Rows = {MASK: seen["info.legal_action_mask"].astype(bool)}
        if "state" in self.options.observe:
            rows["state"] = flat(np.moveaxis(seen["obs"][:, AGENT], -1, 1))
        if "image" in self.options.observe:
            rows["image"] = paint(board_planes(seen), LOOKS, self.options.image_size)
        self._legal |= dict(zip(indices, rows[MASK], strict=True))
        reward = seen["reward"][:, AGENT]
        rows |= {"reward": reward, "success": reward > 0}
        return rows | {"terminated": seen["done"], "truncated": np.zeros(len(indices), bool)}

    def frames(self, pools: Pools, indices: Sequence[int]) -> np.ndarray:
        return paint(board_planes(pools.last(indices)), LOOKS, self.options.video_size)

    def _answered(self, pools: Pools, indices: Sequence[int], seen: Seen) -> Seen:
        """With the opponent's move wherever it is its turn."""
        waiting = ~seen["done"] & (seen["info.current_player"] != AGENT)
        rows = np.flatnonzero(waiting)
        if not len(rows):
            return seen
        moves = [self._reply(indices[row], seen, row) for row in rows.tolist()]
        answered = pools.step([indices[row] for row in rows.tolist()], np.array(moves))
        whole = {name: array.copy() for name, array in seen.items()}
        for name, array in whole.items():
            array[rows] = answered[name]
        return whole

    def _reply(self, index: int, seen: Seen, row: int) -> int:
        colour = BLACK if seen["elapsed"][row] % 2 == 0 else WHITE  # black begins
        areas = seen["info.black_area"][row], seen["info.white_area"][row]
        return reply(
            seen["info.board"][row],
            seen["info.legal_action_mask"][row].astype(bool),
            colour,
            bool(seen["info.consecutive_pass_count"][row] > 0),
            lead(colour, *areas),
            self._random[index],
        )


def board_planes(seen: Seen) -> np.ndarray:
    """The board, black stones, white stones: bool [n, 3, 9, 9]."""
    board = seen["info.board"]
    return np.stack([np.ones_like(board, bool), board == BLACK, board == WHITE], 1)


SUITE = Suite(
    name="go",
    description="Go on 9 x 9 points against a weak player (extra envpool)",
    tasks={"9x9": "win a game of Go against moves by chance"},
    make=single(GoTask),
    envpool=GoTask,
    missing=missing,
)
