"""Levels of the maze: a pure function from a key to a state to begin with.

A grid with a fixed share of walls at random. Open cells that are not joined to the largest part
become walls too, so that all that is open can be reached, and every level can be solved. Player and
pellets are anywhere; exit and ghost are at least half as far from the player as a cell can be. A
level's walls and places are the same whichever of these things the layout has.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from tasks.maze_rules import Plane, State, neighbours

WALLS = 0.3  # share of the cells


@dataclass(frozen=True)
class Layout:
    """What a level has."""

    side: int  # cells
    pellets: int = 0
    exit: bool = False
    ghost: bool = False


def generate(layout: Layout, key: PRNGKeyArray) -> State:
    """The level of a key."""
    wall_key, player_key, pellet_key, exit_key, ghost_key = jax.random.split(key, 5)
    open_cells = _open_cells(layout.side, wall_key)
    walls = ~open_cells
    player = _choose(player_key, open_cells)
    way = distances(walls, player)
    far = open_cells & (2 * way >= jnp.where(open_cells, way, 0).max())
    exit, nothing = _choose(exit_key, far), jnp.zeros_like(walls)
    return State(
        walls=walls,
        pellets=_scatter(pellet_key, open_cells & ~player & ~exit, layout.pellets),
        exit=exit if layout.exit else nothing,
        ghost=_choose(ghost_key, far) if layout.ghost else nothing,
        player=player,
    )


def distances(walls: Plane, goals: Plane) -> Int[Array, "h w"]:
    """Steps from each cell to the nearest goal; the number of cells where none can be reached."""
    never = walls.size

    def closer(way: Int[Array, "h w"]) -> Int[Array, "h w"]:
        through = neighbours(way, never).min(0) + 1
        return jnp.where(walls, never, jnp.minimum(way, through))

    start = jnp.where(goals & ~walls, 0, never)
    return _until_settled(closer, start)


def _open_cells(side: int, key: PRNGKeyArray) -> Bool[Array, "h w"]:
    """The largest part of a random grid whose cells are joined."""
    order = jax.random.permutation(key, side * side).reshape(side, side)
    free = order >= round(WALLS * side * side)

    def join(labels: Int[Array, "h w"]) -> Int[Array, "h w"]:
        return jnp.where(free, jnp.maximum(labels, neighbours(labels, 0).max(0)), 0)

    labels = _until_settled(join, jnp.where(free, order, 0))
    sizes = (labels[..., None, None] == labels).sum((-1, -2))
    largest = jnp.where(free, sizes * side * side + labels, 0).max() % (side * side)
    return free & (labels == largest)


def _until_settled(
    change: Callable[[Int[Array, "h w"]], Int[Array, "h w"]], plane: Int[Array, "h w"]
) -> Int[Array, "h w"]:
    """Apply `change` until nothing changes."""

    def go(pair):
        return change(pair[0]), pair[0]

    return jax.lax.while_loop(lambda pair: (pair[0] != pair[1]).any(), go, (change(plane), plane))[
        0
    ]


def _choose(key: PRNGKeyArray, cells: Plane) -> Plane:
    """One of the cells."""
    return _scatter(key, cells, 1)


def _scatter(key: PRNGKeyArray, cells: Plane, number: int) -> Plane:
    """So many of the cells, or all if they are fewer."""
    rank = jnp.where(cells, jax.random.uniform(key, cells.shape), 2.0).ravel().argsort().argsort()
    return cells & (rank < number).reshape(cells.shape)
