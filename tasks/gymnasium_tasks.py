"""Any gymnasium environment, adapted to the task contract.

| the environment's observation                     | becomes                                  |
|---|---|
| Box of numbers, Discrete, MultiBinary, ...        | `state`: flattened, float32              |
| uint8 Box H x W x 3                               | `image`, scaled to `image_size`          |
| Dict                                              | its uint8 picture is the image; `log/*`  |
|                                                   | and a `mask` with a number per choice of |
|                                                   | Discrete actions stay; all else is       |
|                                                   | flattened into `state`                   |

Where `image` is asked for and the environment gives none, it is rendered. Actions in a Box are
rescaled from [-1, 1] to its bounds. Success is `info["success"]` or `info["is_success"]`, False
where there is neither. An environment may say more with an attribute `spec_extras: SpecExtras`.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

from tasks.adapters import action_space, image_space, mask_space, rescale
from tasks.contract import FAULTS, MASK, SpecExtras, TaskError
from tasks.rendering import image_size
from tasks.settings import TaskOptions

_log = logging.getLogger("craik.tasks")


class GymnasiumTask(gymnasium.Env):
    """A gymnasium environment behind the task contract."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's convention)
    render_mode = "rgb_array"

    def __init__(self, name: str, env: Any, options: TaskOptions) -> None:
        """Adapt `env`.

        Raises:
            TaskError: it is no gymnasium environment, or its spaces do not fit.
        """
        if not isinstance(env, gymnasium.Env):
            raise TaskError(
                f"task {name!r}: the factory must return a gymnasium.Env, got {type(env).__name__}"
            )
        for what in ("observation_space", "action_space"):
            if not isinstance(space := getattr(env, what, None), gymnasium.Space):
                raise TaskError(
                    f"task {name!r}: {what} must be a gymnasium space, such as a Box, got {space!r}"
                )
        self._name, self.env, self._options = name, env, options
        self._image_key, self._state_keys, self._log_keys = _sort(name, env.observation_space)
        self._masked = MASK in self._state_keys and _is_mask(self._part(MASK), env.action_space)
        if self._masked:
            self._state_keys.remove(MASK)
        self.observation_space = self._read_observation_space()
        self.action_space = self._read_action_space()
        extras = getattr(env.unwrapped, "spec_extras", None)
        if not isinstance(extras, SpecExtras | None):
            raise TaskError(f"task {name!r}: spec_extras must be a SpecExtras, got {extras!r}")
        self.spec_extras: SpecExtras = extras or SpecExtras()
        if self.spec_extras.oracle is not None:
            self.spec_extras = _bind_oracle(self.spec_extras, env)
        self.episode_length = env.spec.max_episode_steps if env.spec is not None else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observe(observation), {"success": self._success(info)}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One step of the environment."""
        observation, reward, terminated, truncated, info = self.env.step(self._act(action))
        paid = np.asarray(reward)
        if paid.ndim != 0 or paid.dtype.kind not in "biuf":
            raise TaskError(f"task {self._name!r}: a reward must be a number, got {reward!r}")
        flags = self._truth("terminated", terminated), self._truth("truncated", truncated)
        return self._observe(observation), float(reward), *flags, {"success": self._success(info)}

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A frame of `video_size`.

        Raises:
            RuntimeError: the environment gives no pictures.
        """
        return image_size(self._frame(), self._options.video_size)

    def close(self) -> None:
        """Close the environment, which has given all it had: a failure is told and no more."""
        try:
            self.env.close()
        except AttributeError:  # simulators whose renderer was never made
            pass
        except FAULTS as error:
            _log.warning(
                "task %r: closing it fails: %s: %s", self._name, type(error).__name__, error
            )

    def _read_observation_space(self) -> Dict:
        options, spaces = self._options, {}
        if "state" in options.observe:
            size = sum(gymnasium.spaces.flatdim(self._part(key)) for key in self._state_keys)
            if size == 0:
                what = "observes nothing" if self._image_key is None else "gives pictures only"
                mend = "" if self._image_key is None else "; set tasks.observe = ['image']"
                raise TaskError(f"task {self._name!r} {what}{mend}")
            spaces["state"] = Box(-np.inf, np.inf, (size,), np.float32)
        if "image" in options.observe:
            if self._image_key is None and self.env.render_mode != "rgb_array":
                raise TaskError(
                    f"task {self._name!r} gives no pictures: it has no uint8 observation and its "
                    "factory takes no render_mode='rgb_array'; set tasks.observe = ['state']"
                )
            spaces["image"] = image_space(options.image_size)
        for key in self._log_keys:
            size = gymnasium.spaces.flatdim(self._part(key))
            spaces[key] = Box(-np.inf, np.inf, (size,), np.float32)
        if self._masked:
            spaces[MASK] = mask_space(gymnasium.spaces.flatdim(self._part(MASK)))
        return Dict(spaces)

    def _read_action_space(self) -> gymnasium.Space:
        match self.env.action_space:
            case Discrete(n=n):
                return Discrete(int(n))
            case Box() as box if np.issubdtype(box.dtype, np.floating):
                if not box.is_bounded("both"):
                    raise TaskError(
                        f"task {self._name!r}: the bounds of the action space must be finite, "
                        f"got {box}"
                    )
                if not np.prod(box.shape):
                    raise TaskError(f"task {self._name!r}: an action holds no number: {box}")
                return action_space(int(np.prod(box.shape)))
            case other:
                raise TaskError(
                    f"task {self._name!r}: actions must be a Box of floats or Discrete, got {other}"
                )

    def _part(self, key: str) -> gymnasium.Space:
        """The space behind a key; "" is the whole observation."""
        space = self.env.observation_space
        return space[key] if key and isinstance(space, Dict) else space

    def _act(self, action: Any) -> Any:
        match self.env.action_space:
            case Discrete() as choices:
                return int(action) + int(choices.start)
            case Box() as box:
                return rescale(action, box.low, box.high).astype(box.dtype)

    def _observe(self, raw: Any) -> dict[str, np.ndarray]:
        observation: dict[str, np.ndarray] = {}
        if "state" in self._options.observe:
            parts = [self._flat(raw, key) for key in self._state_keys]
            observation["state"] = np.concatenate(parts)
        if "image" in self._options.observe:
            picture = self._frame() if self._image_key is None else _take(raw, self._image_key)
            observation["image"] = image_size(self._picture(picture), self._options.image_size)
        for key in self._log_keys:
            observation[key] = self._flat(raw, key)
        if self._masked:
            observation[MASK] = self._flat(raw, MASK) > 0
        return observation

    def _flat(self, raw: Any, key: str) -> np.ndarray:
        """The vector behind a key.

        Raises:
            TaskError: it is not of the type or shape that the space says; numpy would broadcast
                some such vectors in silence.
        """
        space = self._part(key)
        try:
            value = _take(raw, key)
            fits = not isinstance(space, Box) or np.shape(value) == space.shape
            flat = np.asarray(gymnasium.spaces.flatten(space, value), np.float32) if fits else None
        except Exception as error:
            raise self._unlike(space, key, f"{type(error).__name__}: {error}") from error
        if flat is None or flat.shape != (gymnasium.spaces.flatdim(space),):
            raise self._unlike(space, key, f"shape {list(np.shape(value))}")
        return flat

    def _picture(self, picture: Any) -> np.ndarray:
        frame = np.asarray(picture)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
            raise TaskError(
                f"task {self._name!r}: a picture must be uint8 [height, width, 3], got"
                f" {frame.dtype} {list(frame.shape)}"
            )
        return frame

    def _unlike(self, space: gymnasium.Space, key: str, found: str) -> TaskError:
        what = f"observation {key!r}" if key else "an observation"
        return TaskError(f"task {self._name!r}: {what} is not of its space {space}: {found}")

    def _success(self, info: Any) -> bool:
        if not isinstance(info, Mapping):
            raise TaskError(f"task {self._name!r}: info must be a dict, got {info!r}")
        key = next((key for key in ("success", "is_success") if key in info), None)
        return False if key is None else self._truth(f"info[{key!r}]", info[key])

    def _truth(self, what: str, value: Any) -> bool:
        """A flag as a bool; a number that is 0 or 1 passes for one.

        Raises:
            TaskError: it is anything else, such as a text, which Python would take for true.
        """
        if np.ndim(value) == 0 and np.asarray(value).dtype.kind in "biuf" and value in (0, 1):
            return bool(value)
        raise TaskError(f"task {self._name!r}: {what} must be true or false, got {value!r}")

    def _frame(self) -> np.ndarray:
        frame = self.env.render()
        if not isinstance(frame, np.ndarray):
            raise RuntimeError(f"task {self._name!r} renders no pictures")
        return frame


def _sort(name: str, space: gymnasium.Space) -> tuple[str | None, list[str], list[str]]:
    """Sort an observation's keys into picture, state and log; "" is the whole observation."""
    keys = list(space.spaces) if isinstance(space, Dict) else [""]
    parts = {key: space[key] if isinstance(space, Dict) and key else space for key in keys}
    logs = [key for key in keys if key.startswith("log/")]
    pictures = [key for key in keys if key not in logs and _is_picture(parts[key])]
    if len(pictures) > 1:
        if "image" not in pictures:
            raise TaskError(
                f"task {name!r}: of several pictures ({', '.join(pictures)}) call one 'image'"
            )
        pictures = ["image"]
    states = [key for key in keys if key not in logs and not _is_picture(parts[key])]
    for key in states + logs:
        if not parts[key].is_np_flattenable:
            what = key or "the observation"
            raise TaskError(f"task {name!r}: {what} cannot become a vector: {space}")
    return (pictures[0] if pictures else None), states, logs


def _is_picture(space: gymnasium.Space) -> bool:
    return (
        isinstance(space, Box)
        and space.dtype == np.uint8
        and len(space.shape) == 3
        and space.shape[-1] == 3
    )


def _is_mask(space: gymnasium.Space, actions: gymnasium.Space) -> bool:
    """Whether a key of that name is what it says, and not an observation."""
    return isinstance(actions, Discrete) and space.shape == (int(actions.n),)


def _take(raw: Any, key: str) -> Any:
    return raw[key] if key else raw


def _bind_oracle(extras: SpecExtras, env: gymnasium.Env) -> SpecExtras:
    """The user's oracle knows the user's environment, not this adapter."""
    oracle = extras.oracle
    assert oracle is not None
    return replace(extras, oracle=lambda _: oracle(env.unwrapped))
