"""Crafter's symbolic observation: what a player sees on the screen, as one float32 vector.

The layout (1345 numbers) is that of Craftax-Classic's symbolic observation in spirit: for each of
the 9 x 7 cells of the local view 12 materials and 9 creatures or plants one-hot (a cell outside of
the world is all zeros), then 16 inventory counts / 9, the facing direction one-hot, the daylight,
and whether the player sleeps. Unlike the picture it is free of noise at night.
"""

from typing import Any

import numpy as np

VIEW = (9, 7)  # cells, x by y
MATERIALS = 12
CREATURES = (
    "cow",
    "zombie",
    "skeleton",
    "arrow-left",
    "arrow-right",
    "arrow-up",
    "arrow-down",
    "plant",
    "plant-ripe",
)
CELL = MATERIALS + len(CREATURES)
INVENTORY = 16
FACINGS = ((-1, 0), (1, 0), (0, -1), (0, 1))
SIZE = VIEW[0] * VIEW[1] * CELL + INVENTORY + len(FACINGS) + 2  # 1345

_CHANNEL = {name: MATERIALS + i for i, name in enumerate(CREATURES)}


def observe(world: Any, player: Any) -> np.ndarray:
    """The symbolic observation of `player` (crafter.objects.Player) in `world`: float32 [1345]."""
    vector = np.zeros(SIZE, np.float32)
    cells = vector[: VIEW[0] * VIEW[1] * CELL].reshape(*VIEW, CELL)
    left, top = int(player.pos[0]) - VIEW[0] // 2, int(player.pos[1]) - VIEW[1] // 2
    _write_materials(cells, world._mat_map, left, top)
    _write_creatures(cells, world, left, top)
    rest = vector[cells.size :]
    rest[:INVENTORY] = np.fromiter(player.inventory.values(), np.float32, INVENTORY) / 9
    rest[INVENTORY + FACINGS.index(tuple(player.facing))] = 1
    rest[-2:] = world.daylight, player.sleeping
    return vector


def _write_materials(cells: np.ndarray, materials: np.ndarray, left: int, top: int) -> None:
    width, height = materials.shape
    x, y = max(left, 0), max(top, 0)
    patch = materials[x : min(left + VIEW[0], width), y : min(top + VIEW[1], height)]
    # identifiers count from 1, 0 is no material
    one_hot = patch[..., None] == np.arange(1, MATERIALS + 1)
    cells[x - left :, y - top :][: patch.shape[0], : patch.shape[1], :MATERIALS] = one_hot


def _write_creatures(cells: np.ndarray, world: Any, left: int, top: int) -> None:
    x, y = max(left, 0), max(top, 0)
    indices = world._obj_map[x : left + VIEW[0], y : top + VIEW[1]]
    for i, j in zip(*np.nonzero(indices), strict=True):
        channel = _CHANNEL.get(world._objects[indices[i, j]].texture)
        if channel is not None:  # the player itself is always in the middle
            cells[x - left + i, y - top + j, channel] = 1
