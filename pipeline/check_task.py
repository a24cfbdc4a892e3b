"""`craik check-task`: the task contract, rule by rule, on one task."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium
import numpy as np
from pydantic import ValidationError

from pipeline.errors import StudyError, suggestion
from pipeline.run import prepare
from tasks import registry
from tasks.contract import TaskError
from tasks.settings import TaskOptions

_STEPS = 60


@dataclass(frozen=True)
class Finding:
    """One rule of the contract, and whether it holds."""

    rule: str
    ok: bool
    found: str


def check(name: str, observe: tuple[str, ...] = ("state",)) -> list[Finding]:
    """Build a task and try every rule of `tasks.contract` on it.

    Raises:
        StudyError: unknown observation.
        TaskError: unknown task.
    """
    prepare()
    registry.check(name)
    try:
        options = TaskOptions.model_validate({"observe": observe})
    except ValidationError:
        hint = suggestion(",".join(observe), ("state", "image", "state,image"))
        raise StudyError(f"check-task --observe {','.join(observe)}: {hint}") from None
    try:
        env = registry.make(name, options)
    except TaskError as error:
        return [Finding("it can be built", False, str(error))]
    try:
        return [Finding("it can be built", True, type(env.unwrapped).__name__), *_rules(env, name)]
    finally:
        env.close()


def as_json(name: str, findings: list[Finding]) -> dict[str, Any]:
    """The findings as plain data."""
    return {
        "task": name,
        "ok": all(row.ok for row in findings),
        "rules": [asdict(r) for r in findings],
    }


def _rules(env: gymnasium.Env, name: str) -> Iterator[Finding]:
    yield _try("its spaces follow the contract", lambda: _spaces(env, name))
    yield _try("an episode follows from its seed", lambda: _reproducible(env))
    yield _try("seeds differ", lambda: _seeds_differ(env))
    yield _try("steps follow the contract", lambda: _steps(env))
    yield _try("it can be filmed", lambda: _film(env))


def _try(rule: str, attempt: Callable[[], str]) -> Finding:
    """A rule holds unless its attempt raises; any exception of a user's task is a finding."""
    try:
        return Finding(rule, True, attempt())
    except Exception as error:
        return Finding(rule, False, " ".join(f"{type(error).__name__}: {error}".split()))


def _spaces(env: gymnasium.Env, name: str) -> str:
    from tasks.contract import spec_of

    spec = spec_of(name, env, getattr(env, "episode_length", None))
    parts = [f"{key} {list(array.shape)}" for key, array in spec.observation.items()]
    length = f"{spec.episode_length} steps" if spec.episode_length else "no time limit"
    return f"{', '.join(parts)}; {spec.action.size} {spec.action.kind} actions; {length}"


def _rollout(env: gymnasium.Env, seed: int, steps: int) -> list[np.ndarray]:
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    rows = [_flat(observation)]
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        rows.append(np.append(_flat(observation), np.float64(float(reward))))
        if terminated or truncated:
            break
    return rows


def _flat(observation: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate(
        [np.asarray(v, np.float64).ravel() for _, v in sorted(observation.items())]
    )


def _reproducible(env: gymnasium.Env) -> str:
    first, second = _rollout(env, 7, _STEPS), _rollout(env, 7, _STEPS)
    for step, (one, other) in enumerate(zip(first, second, strict=False)):
        if one.shape != other.shape or not np.array_equal(one, other):
            raise ValueError(f"the same seed and actions differ at step {step}")
    if len(first) != len(second):
        raise ValueError("the same seed and actions give episodes of different lengths")
    return f"{len(first) - 1} steps, twice the same"


def _seeds_differ(env: gymnasium.Env) -> str:
    extras = getattr(env, "spec_extras", None)
    if extras is not None and not extras.start_jitter:
        return "the task says that its starts are fixed"
    starts = {_flat(env.reset(seed=seed)[0]).tobytes() for seed in range(3)}
    if len(starts) == 1:
        return "every seed starts the same: say so with start_jitter=False"
    return f"{len(starts)} starts of 3 seeds"


def _steps(env: gymnasium.Env) -> str:
    env.action_space.seed(0)
    env.reset(seed=0)
    for step in range(1, _STEPS + 1):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        if not env.observation_space.contains(observation):
            raise ValueError(f"step {step}: the observation is not in the observation space")
        if not np.isfinite(float(reward)):
            raise ValueError(f"step {step}: the reward is {reward}")
        if "success" not in info:
            raise ValueError(f"step {step}: info has no 'success'")
        if terminated or truncated:
            return f"the episode ended at step {step}"
    return f"{_STEPS} steps"


def _film(env: gymnasium.Env) -> str:
    frame = env.render()
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3:
        raise ValueError(f"render() gave {type(frame).__name__}, not a uint8 picture")
    return f"{frame.shape[1]} x {frame.shape[0]} px"
