"""The maze as a simulator on the host: one compiled call a step, and one array back.

All that the environment tells is packed into that array. It runs on the CPU, also where the agent
learns on an accelerator.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from tasks import maze_oracle
from tasks.maze_levels import Layout, generate
from tasks.maze_rules import State, place, step, valid
from tasks.maze_views import cells, observe, vector_size


class Seen(NamedTuple):
    """What a step told."""

    state: np.ndarray  # float32 [S]
    cells: np.ndarray  # int [side, side]
    position: np.ndarray  # float32 [2], in [0, 1]
    mask: np.ndarray  # bool [4]
    reward: float
    done: bool
    success: bool


class Simulator:
    """One maze. What its ghost does is a function of `seed` and the steps since the beginning."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.state: Any = None
        self.seed, self.count = np.uint32(0), 0

    def begin(self, level: int, seed: int) -> Seen:
        """Go to the beginning of a level; `seed` [0, 2^32) is the ghost's."""
        cpu = jax.local_devices(backend="cpu")[0]  # where the first argument is, the rest stays
        self.seed, self.count = np.uint32(seed), 0
        self.state, told = _begin(self.layout, jax.device_put(np.uint32(level), cpu))
        return self._unpack(told)

    def advance(self, action: int) -> Seen:
        """One step."""
        arguments = np.array([action, self.count, self.seed], np.uint32)
        self.state, told = _advance(self.state, arguments)
        self.count += 1
        return self._unpack(told)

    def oracle(self) -> np.ndarray:
        """The scripted action for the present state."""
        return np.asarray(_oracle(self.state))

    def _unpack(self, told: Array) -> Seen:
        side, size = self.layout.side, vector_size(self.layout.side)
        parts = np.split(np.asarray(told), np.cumsum((size, side * side, 2, 4)))
        state, looks, position, mask, (reward, done, success) = parts
        grid = looks.reshape(side, side).astype(int)
        return Seen(
            state.copy(), grid, position.copy(), mask > 0, float(reward), done > 0, success > 0
        )


@functools.partial(jax.jit, static_argnums=0)
def _begin(layout: Layout, level: Integer[Array, ""]) -> tuple[State, Float[Array, " n"]]:
    state = generate(layout, jax.random.key(level))
    return state, _pack(state, jnp.zeros(3))


@jax.jit
def _advance(state: State, arguments: Integer[Array, " 3"]) -> tuple[State, Float[Array, " n"]]:
    action, count, seed = arguments
    key = jax.random.fold_in(jax.random.key(seed), count)
    state, *outcome = step(state, action, key)
    return state, _pack(state, jnp.stack([x.astype(jnp.float32) for x in outcome]))


def _pack(state: State, outcome: Float[Array, " 3"]) -> Float[Array, " n"]:
    parts = (
        observe(state),
        cells(state).ravel(),
        place(state.player) / (len(state.walls) - 1),
        valid(state),
        outcome,
    )
    return jnp.concatenate([part.astype(jnp.float32) for part in parts])


_oracle = jax.jit(maze_oracle.act)
