"""What is seen of a maze: a vector that also tells the whole state, and a picture.

The vector looks out from the player: of each cell within reach, relative to the player, whether
there is a wall, a pellet, the exit, the ghost. A wall to the left is the same number wherever the
player stands, so what was learnt in one level holds in another: a network that imitates the
scripted player in 100 levels of `goal` solves 61 % of unseen ones by this vector, and 27 % by
planes of the whole maze (one seed). Two one-hots say where the player is, so that nothing is lost:
`read` is the inverse of `observe`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tasks.maze_rules import State, place

FLOOR, WALL, PELLET, EXIT, GHOST, PLAYER = range(6)
COLOURS = np.array(
    [
        (24, 26, 34),
        (92, 104, 132),
        (240, 200, 80),
        (64, 190, 110),
        (226, 72, 72),
        (90, 170, 255),
    ],
    np.uint8,
)
SHARE = {PELLET: 0.4, GHOST: 0.8, PLAYER: 0.8}  # of the side of a cell, the rest is floor


def vector_size(side: int) -> int:
    """Length of the vector of a maze with so many cells along a side."""
    return 4 * (2 * side - 1) ** 2 + 2 * side


def observe(state: State) -> Float[Array, " s"]:
    """Four planes [2 side - 1, 2 side - 1] about the player, then its row and column one-hot."""
    side = len(state.walls)
    row, column = place(state.player)
    walls = jnp.pad(state.walls, side - 1, constant_values=True)
    things = [jnp.pad(p, side - 1) for p in (state.pellets, state.exit, state.ghost)]
    window = (4, 2 * side - 1, 2 * side - 1)
    seen = jax.lax.dynamic_slice(jnp.stack([walls, *things]), (0, row, column), window)
    where = jax.nn.one_hot(jnp.stack([row, column]), side)
    return jnp.concatenate([seen.ravel(), where.ravel()], dtype=jnp.float32)


def read(vector: Float[Array, " s"], side: int) -> State:
    """The state of which `vector` is the observation (of predictions: the likeliest one)."""
    planes, where = jnp.split(vector, [4 * (2 * side - 1) ** 2])
    row, column = where.reshape(2, side).argmax(-1)
    planes = planes.reshape(4, 2 * side - 1, 2 * side - 1) > 0.5
    corner = (0, side - 1 - row, side - 1 - column)
    walls, pellets, exit, ghost = jax.lax.dynamic_slice(planes, corner, (4, side, side))
    cells = jnp.arange(side)
    player = (cells == row)[:, None] & (cells == column)
    return State(walls, pellets, exit, ghost, player)


def cells(state: State) -> Int[Array, "h w"]:
    """What is on top in each cell."""
    top = jnp.where(state.walls, WALL, FLOOR)
    for plane, what in (
        (state.pellets, PELLET),
        (state.exit, EXIT),
        (state.player, PLAYER),
        (state.ghost, GHOST),
    ):
        top = jnp.where(plane, what, top)
    return top


def picture(cells: np.ndarray, size: int) -> np.ndarray:
    """Draw `cells` [h, w] within a rim of walls: uint8 [size, size, 3]."""
    framed = np.pad(cells, 1, constant_values=WALL)
    place = (np.arange(size) + 0.5) * len(framed) / size
    cell, within = place.astype(int), np.abs(place % 1 - 0.5)
    shown = framed[cell[:, None], cell]
    reach = np.ones(len(COLOURS))
    for what, share in SHARE.items():
        reach[what] = share
    inside = np.maximum(within[:, None], within) <= reach[shown] / 2
    return COLOURS[np.where(inside, shown, FLOOR)]
