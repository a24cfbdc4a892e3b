"""Crafter's simulator with its defects repaired: a reproducible world and views that leave it be.

Crafter 1.8.3 keeps the objects of a chunk in sets, which iterate in address order while random
numbers are drawn, so that the same seed and actions diverge. Here they keep the order of insertion.
The night's noise was drawn from the world's own generator, so that looking changed what happened
next; here it has one of its own. Everything else is the package's code.
"""

import collections
from typing import Any

import numpy as np

from tasks import crafter_terrain
from tasks.gym_shim import import_with_gymnasium

crafter: Any = import_with_gymnasium("crafter")
constants: Any = crafter.constants
engine: Any = crafter.engine

AREA = (64, 64)
VIEW = (9, 9)  # cells of the picture, two rows of them the inventory's


class OrderedSet(dict):
    """The part of a set's interface that chunks need, iterated in order of insertion."""

    def add(self, item: Any) -> None:
        self[item] = None

    def remove(self, item: Any) -> None:
        del self[item]


class World(engine.World):
    """A world whose chunks iterate in the same order in every process."""

    def reset(self, seed: int | None = None) -> None:
        super().reset(seed)
        self._chunks = collections.defaultdict(OrderedSet)


class LocalView(engine.LocalView):
    """The local view, drawn several times faster and pixel by pixel equal to the package's."""

    def __init__(self, world: World, textures: Any, grid: list[int]):
        super().__init__(world, textures, grid)
        self._tiles: dict[tuple[int, int], np.ndarray] = {}
        self._vignettes: dict[tuple[int, ...], np.ndarray] = {}
        self.noise = np.random.RandomState(0)

    def __call__(self, player: Any, unit: np.ndarray) -> np.ndarray:
        """Draw what `player` sees at `unit` pixels per cell: [x, y, 3], 0 to 255."""
        canvas = self._terrain(np.asarray(player.pos), (int(unit[0]), int(unit[1])))
        for thing in self._world.objects:
            cell = thing.pos - player.pos + self._offset
            if 0 <= cell[0] < self._grid[0] and 0 <= cell[1] < self._grid[1]:
                engine._draw_alpha(canvas, cell * unit, self._textures.get(thing.texture, unit))
        canvas = self._light(canvas, self._world.daylight)
        return self._sleep(canvas) if player.sleeping else canvas

    def _terrain(self, center: np.ndarray, unit: tuple[int, int]) -> np.ndarray:
        if unit not in self._tiles:
            names = list(self._world._mat_names.values())
            tiles = [self._textures.get(name, unit)[..., :3] for name in names]
            outside = np.full((*unit, 3), 127, np.uint8)
            self._tiles[unit] = np.stack([*tiles, outside])
        tiles = self._tiles[unit]
        xs, ys = (center[i] - self._offset[i] + np.arange(self._grid[i]) for i in (0, 1))
        inside = ((xs >= 0) & (xs < self._area[0]))[:, None] & ((ys >= 0) & (ys < self._area[1]))
        materials = self._world._mat_map[np.ix_(xs % self._area[0], ys % self._area[1])]
        patch = tiles[np.where(inside, materials, len(tiles) - 1)]
        return np.ascontiguousarray(patch.transpose(0, 2, 1, 3, 4)).reshape(
            self._grid[0] * unit[0], self._grid[1] * unit[1], 3
        )

    def _noise(self, canvas: np.ndarray, amount: float, stddev: float) -> np.ndarray:
        shape = canvas.shape
        if shape not in self._vignettes:
            self._vignettes[shape] = self._vignette(shape, stddev)
        noise = self.noise.uniform(32, 127, shape[:2])[..., None]
        mask = amount * self._vignettes[shape][..., None]
        return (1 - mask) * canvas + mask * noise


class Simulator(crafter.Env):
    """Crafter, stepped without rendering and reset by a seed.

    Args:
        length: steps after which an episode is cut off, 10,000 in the published benchmark.
    """

    def __init__(self, length: int = 10_000):
        super().__init__(area=AREA, view=VIEW, size=(64, 64), length=length, seed=0)
        # the package builds a stock world first; the views must look at the repaired one
        self._world = World(AREA, constants.materials, (12, 12))
        rows = self._item_view._grid[1]
        self._local_view = LocalView(self._world, self._textures, [VIEW[0], VIEW[1] - rows])

    @property
    def world(self) -> World:
        return self._world

    @property
    def player(self) -> Any:
        return self._player

    @property
    def steps(self) -> int:
        return self._step or 0

    def start(self, seed: int) -> None:
        """Begin the episode that stock Crafter has as the first one of `seed`."""
        self._seed, self._step = int(seed), 0
        world = self._world
        world.reset(seed=hash((self._seed, 1)) % (2**31 - 1))
        self._update_time()
        self._player = crafter.objects.Player(world, (AREA[0] // 2, AREA[1] // 2))
        self._last_health = self._player.health
        world.add(self._player)
        self._unlocked = set()
        crafter_terrain.generate(world, self._player)

    def advance(self, action: int) -> float:
        """One step: the order of events is the package's. Returns the reward."""
        self._step += 1
        self._update_time()
        player = self._player
        player.action = constants.actions[action]
        for thing in self._world.objects:
            # Object.distance without its temporary arrays; the player updates first and moves
            dx, dy = thing.pos[0] - player.pos[0], thing.pos[1] - player.pos[1]
            if abs(int(dx)) + abs(int(dy)) < 2 * max(VIEW):
                thing.update()
        if self._step % 10 == 0:
            for chunk, things in self._world.chunks.items():
                self._balance_chunk(chunk, things)
        return self._earned()

    def _earned(self) -> float:
        """A tenth of the change in health, and 1 when something was achieved for the first time."""
        player = self._player
        reward = (player.health - self._last_health) / 10
        self._last_health = player.health
        unlocked = {name for name, count in player.achievements.items() if count > 0}
        if unlocked - self._unlocked:
            self._unlocked |= unlocked
            reward += 1.0
        return float(reward)

    def picture(self, size: int) -> np.ndarray:
        """Draw the screen: uint8 [size, size, 3]; the same picture however often it is drawn."""
        self._local_view.noise.seed((self._seed * 10_007 + self.steps) % 2**32)
        return self.render((size, size))
