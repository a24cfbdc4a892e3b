"""A scripted player of the maze: the shortest way to what pays, and around the ghost."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from tasks.maze_levels import distances
from tasks.maze_rules import State, moves


def act(state: State) -> Int[Array, ""]:
    """Go to the nearest pellet, or to the exit if none is left.

    Cells to which the ghost may come with its next move count as walls; where that leaves no way,
    the player goes where the ghost is farthest.
    """
    goals = jnp.where(state.pellets.any(), state.pellets, state.exit)
    danger = state.ghost | moves(state.walls, state.ghost).any(0)
    options = moves(state.walls, state.player)
    way = _at(options, distances(state.walls | danger, goals))
    ghost = _at(options, distances(state.walls, state.ghost))
    score = way - ghost / (state.walls.size + 1)
    return jnp.where(options.any((1, 2)), score, jnp.inf).argmin()


def _at(options: Bool[Array, "4 h w"], plane: Int[Array, "h w"]) -> Int[Array, " 4"]:
    """A plane's value where each move leads."""
    return jnp.where(options, plane, 0).sum((1, 2))
