"""The rules of the maze: a pure function from state, action and key to what follows.

    state, reward, done, success = step(state, action, key)

It takes one maze; `jax.vmap` makes it many, and a search may use it as a world model that is never
wrong. What there is in a maze is in its state, so that all tasks share the rules:

- The player moves up, down, left or right; a move into a wall, or off the grid, does nothing.
- A pellet pays 1 when the player comes to it, once.
- The exit opens when no pellet is left; to stand there then pays 1 and ends the episode. Where no
  exit is, the last pellet ends it. Either is success.
- The ghost moves after the player: half of the time at random, else towards the player as the crow
  flies. Player and ghost on one cell end the episode.

Every part of a state is a plane over the cells; a plane with nothing set means that there is none.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer, PRNGKeyArray

Plane = Bool[Array, "h w"]
ACTIONS = ("up", "down", "left", "right")
WANDER = 0.5  # share of the ghost's moves that are at random


class State(NamedTuple):
    """A maze at one moment."""

    walls: Plane
    pellets: Plane
    exit: Plane
    ghost: Plane
    player: Plane


def step(
    state: State, action: Integer[Array, ""], key: PRNGKeyArray
) -> tuple[State, Float[Array, ""], Bool[Array, ""], Bool[Array, ""]]:
    """One move of the player, then one of the ghost.

    Returns:
        The next state, the reward, whether the episode is over, and whether with success.
    """
    walls, exit = state.walls, state.exit
    player = _take(moves(walls, state.player), action, state.player)
    eaten = (player & state.pellets).any()
    pellets = state.pellets & ~player
    out = (player & exit).any()
    success = ~pellets.any() & (out | ~exit.any()) & ~(player & state.ghost).any()
    still = success | (player & state.ghost).any()
    chased = _take(moves(walls, state.ghost), _chase(state, player, key), state.ghost)
    ghost = jnp.where(still, state.ghost, chased)
    caught = ~success & (player & ghost).any()
    reward = eaten.astype(jnp.float32) + (success & out)
    return State(walls, pellets, exit, ghost, player), reward, caught | success, success


def valid(state: State) -> Bool[Array, " 4"]:
    """Which moves bring the player to another cell."""
    return moves(state.walls, state.player).any((1, 2))


def moves(walls: Plane, thing: Plane) -> Bool[Array, "4 h w"]:
    """Where each move would bring a thing; an empty plane where something is in the way."""
    return neighbours(thing, False) & ~walls


def neighbours(
    plane: Bool[Array, "h w"] | Int[Array, "h w"], outside: bool | int
) -> Bool[Array, "4 h w"] | Int[Array, "4 h w"]:
    """The plane moved by each action; `outside` comes in at the edge."""
    padded = jnp.pad(plane, 1, constant_values=outside)
    return jnp.stack([padded[2:, 1:-1], padded[:-2, 1:-1], padded[1:-1, 2:], padded[1:-1, :-2]])


def place(thing: Bool[Array, "*n h w"]) -> Int[Array, "*n 2"]:
    """Row and column of a thing; (0, 0) where there is none."""
    rows, columns = thing.any(-1), thing.any(-2)
    return jnp.stack([rows.argmax(-1), columns.argmax(-1)], -1)


def _take(options: Bool[Array, "4 h w"], action: Integer[Array, ""], now: Plane) -> Plane:
    target = (options & (jnp.arange(4) == action)[:, None, None]).any(0)
    return jnp.where(target.any(), target, now)


def _chase(state: State, player: Plane, key: PRNGKeyArray) -> Int[Array, ""]:
    """The ghost's move; ties are broken at random."""
    options = moves(state.walls, state.ghost)
    draws = jax.random.uniform(key, (5,))
    way = jnp.abs(place(options) - place(player)).sum(-1)
    score = jnp.where(draws[4] < WANDER, 0, way) + draws[:4]
    return jnp.where(options.any((1, 2)), score, jnp.inf).argmin()
