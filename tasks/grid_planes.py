"""Games on a grid as planes: one plane [H, W] of zeros and ones for each kind of thing.

The planes, flattened one after the other, are the state that an agent sees; painted in their order,
each in a colour, they are its picture. What a game tells of places becomes planes by `marks`.
"""

from collections.abc import Sequence

import numpy as np

FLOOR = (24, 26, 34)
Colour = tuple[int, int, int]


def marks(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A plane [n, H, W] with a one at each of k places; those outside of the grid mark nothing.

    Args:
        rows: [n, k] or [n]; `columns` likewise.
    """
    number = len(rows)
    rows, columns = rows.reshape(number, -1), columns.reshape(number, -1)
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    which = np.broadcast_to(np.arange(number)[:, None], rows.shape)
    plane = np.zeros((number, *shape), bool)
    plane[which[inside], rows[inside], columns[inside]] = True
    return plane


def flat(planes: np.ndarray) -> np.ndarray:
    """Planes [n, P, H, W] as states, float32 [n, P * H * W]."""
    return planes.reshape(len(planes), -1).astype(np.float32)


def paint(planes: np.ndarray, colours: Sequence[Colour], size: int) -> np.ndarray:
    """Pictures of planes [n, P, H, W], the later over the earlier: uint8 [n, size, size, 3].

    A cell is as many pixels wide as its share of the side, rounded; at less than a pixel per cell
    some are not to be seen.
    """
    height, width = planes.shape[-2:]
    rows = ((np.arange(size) + 0.5) * height / size).astype(int)
    columns = ((np.arange(size) + 0.5) * width / size).astype(int)
    table = np.array([FLOOR, *colours], np.uint8)
    order = np.arange(1, planes.shape[1] + 1).reshape(1, -1, 1, 1)
    top = (planes.astype(bool) * order).max(1)  # the last plane that has something there
    return table[top[:, rows[:, None], columns]]
