"""What every world model offers to planners, behaviours and the training engine."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

State = PyTree[Array]
Noise = PyTree[Array]
Batch = Mapping[str, Any]  # [B, T, ...] arrays: observation keys, action, reward, is_first, ...


@runtime_checkable
class WorldModel(Protocol):
    """Methods take one unbatched sample; the caller maps (batch) and scans (time).

    `action` is what the actor chose: numbers in [-1, 1], or a one-hot choice.
    """

    def initial(self) -> State:
        """State before any observation."""
        ...

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Noise:
        """The random numbers of `shape` steps, observed or imagined, drawn in one call: inside a
        loop, key by key, they cost several times more. Consumes `key`."""
        ...

    def observe(
        self,
        state: State,
        action: Float[Array, " a"],
        observation: Mapping[str, Array],
        is_first: Bool[Array, ""],
        noise: Noise,
    ) -> State:
        """State after `action` led to `observation`; `is_first` forgets what was before."""
        ...

    def imagine(self, state: State, action: Float[Array, " a"], noise: Noise) -> State:
        """State after `action`, without an observation."""
        ...

    def root(self, state: State) -> State:
        """What imagination begins at: an observed state without what only `observe` needs."""
        ...

    def features(self, state: State) -> Float[Array, " features"]:
        """What heads and policies read of a state that imagination may begin at."""
        ...

    def reward(self, features: Float[Array, " features"]) -> Float[Array, ""]:
        """Expected reward on arriving in a state."""
        ...

    def continuation(self, features: Float[Array, " features"]) -> Float[Array, ""]:
        """Probability that the episode goes on from a state."""
        ...

    def loss(
        self,
        batch: Batch,
        start: State,
        slow_model: "WorldModel | None",
        key: PRNGKeyArray,
    ) -> tuple[dict[str, Float[Array, ""]], State]:
        """Losses by name over a whole batch [B, T], and the states [B, T] for imagination."""
        ...
