"""Games on a grid as planes: one plane [H, W] of zeros and ones for each kind of thing.

The planes, flattened one after the other, are the state that an agent sees; painted in their order,
each in a colour, they are its picture. What a game tells of places becomes planes by `marks`.
"""

from collections.abc import Sequence

import numpy as np

FLOOR = (24, 26, 34)
Look = tuple[tuple[int, int, int], float]  # a colour, and the share of a cell's side it covers


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


def paint(planes: np.ndarray, looks: Sequence[Look], size: int) -> np.ndarray:
    """Pictures of planes [n, P, H, W], the later over the earlier: uint8 [n, size, size, 3].

    What covers a part of its cell leaves to be seen what it stands on. At a pixel per cell or less
    some cells are lost.
    """
    rows, row_offset = _cells(size, planes.shape[2])
    columns, column_offset = _cells(size, planes.shape[3])
    offset = np.maximum(row_offset[:, None], column_offset)
    frames = np.full((len(planes), size, size, 3), FLOOR, np.uint8)
    for plane, (colour, share) in zip(np.moveaxis(planes, 1, 0), looks, strict=True):
        there = plane[:, rows[:, None], columns].astype(bool)
        frames[there & (offset <= share / 2)] = colour
    return frames


def _cells(size: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel along a side its cell, and how far it is from that cell's middle, in cells."""
    place = (np.arange(size) + 0.5) * cells / size
    return place.astype(int), np.abs(place % 1 - 0.5)
