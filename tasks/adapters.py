"""What every suite's adapter shares: observation spaces, action scaling, repeat and length cap."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from tasks.contract import SpecExtras
from tasks.settings import TaskOptions


def observation_space(
    options: TaskOptions, state_size: int, log: Mapping[str, int] | None = None
) -> Dict:
    """The Dict space of the contract: `state` [state_size] and / or `image`, then log vectors."""
    spaces: dict[str, gymnasium.Space] = {}
    if "state" in options.observe:
        spaces["state"] = Box(-np.inf, np.inf, (state_size,), np.float32)
    if "image" in options.observe:
        spaces["image"] = image_space(options.image_size)
    for key, size in (log or {}).items():
        spaces[key] = Box(-np.inf, np.inf, (size,), np.float32)
    return Dict(spaces)


def mask_space(choices: int) -> Box:
    """Which of so many choices make sense."""
    return Box(0, 1, (choices,), np.bool_)  # pyright: ignore[reportCallIssue, reportArgumentType]


def image_space(size: int) -> Box:
    """Square uint8 pictures."""
    return Box(0, 255, (size, size, 3), np.uint8)


def action_space(size: int) -> Box:
    """`size` numbers in [-1, 1]."""
    return Box(-1.0, 1.0, (size,), np.float32)


def flat_state(parts: Mapping[str, Any]) -> np.ndarray:
    """All arrays of a mapping, in its order, as one float32 vector."""
    return np.concatenate([np.asarray(part, np.float32).ravel() for part in parts.values()])


def rescale(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Map [-1, 1] to [low, high], clipping what lies outside."""
    action = np.clip(np.asarray(action, np.float64), -1, 1).reshape(low.shape)
    return low + (action + 1) / 2 * (high - low)


def extras_of(env: gymnasium.Env) -> SpecExtras:
    """What the suite says about the task; defaults where it says nothing."""
    return getattr(env, "spec_extras", None) or SpecExtras()


def oracle_action(env: gymnasium.Env) -> np.ndarray:
    """The scripted action for an environment's present state.

    Raises:
        ValueError: the task has no oracle.
    """
    oracle = extras_of(env).oracle
    if oracle is None:
        raise ValueError("this task has no scripted policy")
    return oracle(env)


def limit(env: gymnasium.Env, options: TaskOptions) -> gymnasium.Env:
    """Apply `options.action_repeat` and `options.episode_length`; `env` itself if neither acts."""
    length: int | None = getattr(env, "episode_length", None)
    shorter = options.episode_length is not None and (
        length is None or options.episode_length * options.action_repeat < length
    )
    return Limited(env, options) if shorter or options.action_repeat > 1 else env


class Limited(gymnasium.Wrapper):
    """Holds each action for several steps, and truncates after a number of agent steps.

    Rewards are summed; `success` holds if it did after any of the repeated steps, so that a
    goal passed between two decisions counts as it does without repeats.
    """

    def __init__(self, env: gymnasium.Env, options: TaskOptions) -> None:
        super().__init__(env)
        self._repeat, self._count = options.action_repeat, 0
        inner: int | None = getattr(env, "episode_length", None)
        own = None if inner is None else math.ceil(inner / self._repeat)
        lengths = [length for length in (own, options.episode_length) if length is not None]
        self.episode_length = min(lengths, default=None)

    @property
    def spec_extras(self) -> SpecExtras:
        """The suite's, at the agent's rate; the oracle gets the environment that it knows."""
        extras = extras_of(self.env)
        oracle, rate = extras.oracle, extras.control_hz
        return replace(
            extras,
            oracle=None if oracle is None else lambda _: oracle(self.env),
            control_hz=None if rate is None else rate / self._repeat,
            # rows between two decisions are not recorded, but their rewards were summed
            relabel=extras.relabel if self._repeat == 1 or extras.relabels_repeats else None,
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode."""
        self._count = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        """One agent step: up to `action_repeat` simulator steps."""
        # an environment may offer a step without its observation, so that only one is drawn
        advance: Any = getattr(self.env, "advance", None)
        step: Any = self.env.step if advance is None else lambda act: (None, *advance(act))
        observation, total, terminated, truncated, info = step(action)
        success = bool(info.get("success", False))
        for _ in range(self._repeat - 1):
            if terminated or truncated:
                break
            observation, reward, terminated, truncated, info = step(action)
            total = float(total) + float(reward)
            success |= bool(info.get("success", False))
        if advance is not None:
            observation = cast(Any, self.env).observe()
        self._count += 1
        truncated |= self.episode_length is not None and self._count >= self.episode_length
        truncated &= not terminated
        return observation, total, terminated, truncated, info | {"success": success}
