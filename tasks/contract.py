"""The task contract: what every suite offers and everything above relies on.

A task is a `gymnasium.Env` with
- a `Dict` observation space: `image` (uint8, H x W x 3) and / or `state` (float32 vector), as asked
  by `TaskOptions.observe`; keys that begin with `log/` are recorded and hidden from the agent;
- optional in it, with discrete actions: `mask` (bool [choices]), true where a choice makes sense
  now. It is no observation that is encoded or predicted, but a policy or a search may read it. At
  least one choice is always true; one that is false may be taken all the same, and does nothing;
- a `Box` action space in [-1, 1] (float32) or a `Discrete` one;
- `reset(seed=...)` that makes the episode a function of the seed alone;
- `info["success"]` at every step (bool: is the goal reached now);
- `render()` that gives a uint8 frame of `video_size` for videos (no observation needs it);
- optional `env.spec_extras: SpecExtras`, what the suite knows beyond its spaces.

Log keys with a meaning to the report:
    log/position      float32 [k <= 3], in [0, 1]: where the effector or player is (coverage)
    log/moved         float32 [objects], 1 once the object moved in this episode (objects moved)
    log/achievements  float32 [achievements], counts in this episode (Crafter)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import gymnasium
import numpy as np

Metric = Literal["return", "success", "score"]
Rows = Mapping[str, np.ndarray]  # observation keys and flags of several steps
MASK = "mask"  # the observation key of valid choices
FAULTS = (Exception, SystemExit)  # what a simulator may raise; none of it ends more than its job


class TaskError(Exception):
    """A mistake in what the user asked for, told in one line (no traceback, exit code 2)."""


@dataclass(frozen=True)
class ArraySpec:
    """Shape and dtype of one observation key."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class ActionSpec:
    """`size` numbers in [-1, 1] (continuous) or one of `size` choices (discrete)."""

    kind: Literal["continuous", "discrete"]
    size: int


@dataclass(frozen=True)
class SpecExtras:
    """What a suite says about a task beyond its spaces."""

    metric: Metric = "return"
    objects: tuple[str, ...] = ()  # names of log/moved
    achievements: tuple[str, ...] = ()  # names of log/achievements
    oracle: Callable[[Any], np.ndarray] | None = None  # env -> scripted action for its state
    relabel: Callable[[Rows], np.ndarray] | None = None
    """What the task pays for recorded rows, float32 [N]: one stretch of steps in their order, with
    the observation's keys, `is_first`, and `action`, taken after each."""
    relabels_repeats: bool = False
    """Whether it knows of repeated actions and sums what each was paid; else it is told of rows at
    the simulator's rate alone, and not offered where actions are repeated."""
    places: Callable[[Rows], dict[str, np.ndarray]] | None = None
    """Where things are, by name, [N, k] in metres, as far as observations [N, ...] tell. A place of
    two numbers lies in a plane that can be drawn. Needs no simulator."""
    variant: dict[str, str] = field(default_factory=dict)  # recorded beside every result
    control_hz: float | None = None  # agent steps per simulated second
    start_jitter: bool = True  # resets differ between seeds

    def __post_init__(self) -> None:
        """Refuse what would be noticed only after training.

        Raises:
            ValueError: an unknown metric, or an answer that cannot be called.
        """
        if self.metric not in get_args(Metric):
            raise ValueError(
                f"spec_extras.metric must be {', '.join(get_args(Metric))}, got {self.metric!r}"
            )
        for name in ("oracle", "relabel", "places"):
            if (answer := getattr(self, name)) is not None and not callable(answer):
                raise ValueError(f"spec_extras.{name} must be a function, got {answer!r}")


@dataclass(frozen=True)
class TaskSpec:
    """Everything above the tasks' floor needs to know about a task. Plain data, picklable."""

    name: str
    observation: dict[str, ArraySpec]  # what the agent sees, without log/ keys
    log: dict[str, ArraySpec]
    action: ActionSpec
    metric: Metric
    episode_length: int | None  # agent steps
    objects: tuple[str, ...]
    achievements: tuple[str, ...]
    has_oracle: bool
    variant: dict[str, str]
    control_hz: float | None
    masked: bool = False  # rows have `mask`
    can_relabel: bool = False  # the suite offers `SpecExtras.relabel`

    @property
    def arrays(self) -> dict[str, ArraySpec]:
        """Every key that an observation of the environment has: seen, logged, and the mask."""
        mask = {MASK: ArraySpec((self.action.size,), "bool")} if self.masked else {}
        return self.observation | self.log | mask


class VectorTasks(Protocol):
    """N copies of a task stepped as one batch (see `tasks.vector.make_vector`).

    `reset` and `step` return a dict of arrays with leading axis N: the observation keys (log/ keys
    and `mask` included), and reward float32, is_first, is_last, is_terminal, success, fault bool.
    The step after an `is_last` ignores its action and returns the next episode's first observation
    (`is_first`, reward 0); it is no env step. `fault` marks an episode that was abandoned because
    its simulator raised, hung, died or returned not-a-number: that row is the first of a fresh
    episode, and the episode before it must be dropped.
    """

    spec: TaskSpec
    number: int

    def reset(self) -> dict[str, np.ndarray]: ...
    def step(self, actions: np.ndarray) -> dict[str, np.ndarray]: ...
    def oracle_actions(self) -> np.ndarray: ...
    def render(self) -> np.ndarray | None: ...  # uint8 [N, H, W, 3], None without GL
    def snapshot(self) -> dict[str, Any]: ...  # JSON-able + arrays: seeds, episodes, actions
    def restore(self, snapshot: dict[str, Any]) -> dict[str, np.ndarray]: ...  # -> current rows
    def close(self) -> None: ...


@runtime_checkable
class PureTask(Protocol):
    """A task whose step is a pure function of JAX arrays, so that one can plan in it. It takes one
    unbatched sample and has a hash; `action` is as agents give it, `key` a random key."""

    def read(self, observation: Mapping[str, Any]) -> Any: ...  # the state that is observed
    def observe(self, state: Any) -> dict[str, Any]: ...
    def step(self, state: Any, action: Any, key: Any) -> tuple[Any, Any, Any]:
        """The next state, the reward, and whether the episode terminates."""
        ...


def spec_of(name: str, env: gymnasium.Env, episode_length: int | None) -> TaskSpec:
    """Read the spec off an adapted environment.

    Raises:
        TaskError: the spaces do not follow the contract.
    """
    space = env.observation_space
    if not isinstance(space, gymnasium.spaces.Dict):
        raise TaskError(f"task {name}: the observation space must be a Dict, got {space}")
    arrays = {
        key: ArraySpec(tuple(box.shape or ()), str(box.dtype)) for key, box in space.spaces.items()
    }
    match env.action_space:
        case gymnasium.spaces.Discrete(n=n):
            action = ActionSpec("discrete", int(n))
        case gymnasium.spaces.Box(shape=(size,)):
            action = ActionSpec("continuous", int(size))
        case other:
            raise TaskError(f"task {name}: actions must be Discrete or a flat Box, got {other}")
    if MASK in arrays and (action.kind, arrays[MASK]) != (
        "discrete",
        ArraySpec((action.size,), "bool"),
    ):
        raise TaskError(f"task {name}: a mask needs Discrete actions, and a bool for each of them")
    extras: SpecExtras = getattr(env, "spec_extras", None) or SpecExtras()
    return TaskSpec(
        name=name,
        observation={k: v for k, v in arrays.items() if not k.startswith("log/") and k != MASK},
        log={k: v for k, v in arrays.items() if k.startswith("log/")},
        action=action,
        metric=extras.metric,
        episode_length=episode_length,
        objects=extras.objects,
        achievements=extras.achievements,
        has_oracle=extras.oracle is not None,
        variant=extras.variant,
        control_hz=extras.control_hz,
        masked=MASK in arrays,
        can_relabel=extras.relabel is not None,
    )
