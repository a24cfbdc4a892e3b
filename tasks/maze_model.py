"""The maze as a pure function of what was observed: a model to search in that is never wrong."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tasks import maze_views
from tasks.maze_rules import State, step


@dataclass(frozen=True)
class MazeModel:
    """A maze of `side` cells (see `tasks.contract.PureTask`).

    It knows all but what the ghost will draw, and when time is up: that no observation tells.
    """

    side: int
    rewarded: bool  # `maze/free` pays nothing, and success does not end it

    def read(self, observation: Mapping[str, Array]) -> State:
        """The state that is observed."""
        return maze_views.read(observation["state"], self.side)

    def observe(self, state: State) -> dict[str, Array]:
        """What is observed of a state."""
        return {"state": maze_views.observe(state)}

    def step(
        self, state: State, action: Float[Array, " 4"], key: PRNGKeyArray
    ) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
        """The state after a one-hot action, the reward, and whether the episode terminates."""
        state, reward, done, success = step(state, jnp.argmax(action), key)
        if self.rewarded:
            return state, reward, done
        return state, jnp.zeros_like(reward), done & ~success
