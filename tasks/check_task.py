"""Does a task keep the contract? The test of every registered task, and `craik check-task NAME`.

rows = check("my_cell.tasks:make_peg", TaskOptions())
all(row.passed for row in rows)
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from tasks import registry
from tasks.adapters import extras_of, oracle_action
from tasks.contract import FAULTS, MASK, TaskError, TaskSpec
from tasks.group import told
from tasks.settings import TaskOptions

STEPS = 8


@dataclass(frozen=True)
class Row:
    """The outcome of one check."""

    check: str
    passed: bool
    detail: str = ""  # what was found, where it failed


@dataclass(frozen=True)
class Trace:
    """What a short episode gave, in order: the reset's row first."""

    observations: list[dict[str, np.ndarray]]
    rewards: list[Any]
    flags: list[tuple[Any, Any]]  # terminated, truncated
    infos: list[dict[str, Any]]


def check(name: str, options: TaskOptions, steps: int = STEPS) -> list[Row]:
    """Run every check of the contract on one task.

    Each check is a row; where the task cannot even be built or stepped, that row is the last.

    Raises:
        TaskError: the task needs a package that is not installed.
    """
    options = registry.plain(options)
    registry.check_installed(name)  # a mistake, not a finding
    try:
        registry.check(name)
        spec = registry.spec(name, options)
        env = registry.make(name, options)
    except TaskError as error:
        return [Row("can be built", False, str(error))]
    except FAULTS as error:
        return [Row("can be built", False, told(error))]
    rows = [Row("can be built", True)]
    try:
        rows += [_row(what, lambda test=test: test(env, spec)) for what, test in _SPACES.items()]
        traces = [_run(env, seed, steps) for seed in (1, 1, 2)]
        rows += [_row(what, lambda test=test: test(traces, spec)) for what, test in _TRACES.items()]
        rows.append(_row("resets differ between seeds", lambda: _seeds_differ(env, traces)))
        rows.append(_row("the scripted policy acts", lambda: _oracle(env, spec)))
    except FAULTS as error:
        rows.append(Row("can be stepped", False, told(error)))
    finally:
        env.close()
    return rows


def problems(rows: list[Row]) -> list[str]:
    """The failed checks, one line each."""
    return [f"{row.check}: {row.detail}" for row in rows if not row.passed]


def _row(what: str, test: Callable[[], str]) -> Row:
    try:
        detail = test()
    except FAULTS as error:
        detail = told(error)
    return Row(what, not detail, detail)


def _run(env: gymnasium.Env, seed: int, steps: int) -> Trace:
    """Reset with `seed` and take `steps` random actions drawn from a fixed generator."""
    random = np.random.default_rng(0)
    observation, info = env.reset(seed=seed)
    trace = Trace([observation], [0.0], [(False, False)], [info])
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(_draw(env, random))
        trace.observations.append(observation)
        trace.rewards.append(reward)
        trace.flags.append((terminated, truncated))
        trace.infos.append(info)
        if terminated or truncated:
            break
    return trace


def _draw(env: gymnasium.Env, random: np.random.Generator) -> Any:
    match env.action_space:
        case gymnasium.spaces.Discrete(n=n):
            return int(random.integers(n))
        case space:
            return random.uniform(-1, 1, space.shape).astype(np.float32)


def _dtypes(env: gymnasium.Env, spec: TaskSpec) -> str:
    for key, array in (spec.observation | spec.log).items():
        wanted = ("uint8", 3) if key == "image" else ("float32", 1)
        if (array.dtype, len(array.shape)) != wanted:
            return f"{key} is {array.dtype} {array.shape}, wanted {wanted[0]} with {wanted[1]} axes"
    return "" if spec.observation else "nothing is observed"


def _keys(env: gymnasium.Env, spec: TaskSpec) -> str:
    extra = set(spec.observation) - {"state", "image"}
    wanted = "others are mask, or begin with log/"
    return f"unknown keys {sorted(extra)}; {wanted}" if extra else ""


def _actions(env: gymnasium.Env, spec: TaskSpec) -> str:
    match env.action_space:
        case gymnasium.spaces.Discrete(n=n, start=0) if n > 1:
            return ""
        case gymnasium.spaces.Box() as box if box.dtype == np.float32:
            if (box.low == -1).all() and (box.high == 1).all():
                return ""
    return f"wanted Discrete from 0 or a float32 Box in [-1, 1], got {env.action_space}"


def _extras(env: gymnasium.Env, spec: TaskSpec) -> str:
    for key, names in (("log/moved", spec.objects), ("log/achievements", spec.achievements)):
        size = spec.log[key].shape[0] if key in spec.log else 0
        if size != len(names):
            return f"{key} has {size} numbers, but spec_extras names {len(names)}"
    position = spec.log.get("log/position")
    if position is not None and position.shape[0] > 3:
        return f"log/position has {position.shape[0]} numbers, at most 3 are wanted"
    return ""


def _observations(traces: list[Trace], spec: TaskSpec) -> str:
    wanted = spec.arrays
    for observation in (o for trace in traces for o in trace.observations):
        if set(observation) != set(wanted):
            return f"keys {sorted(observation)} where the space has {sorted(wanted)}"
        for key, array in wanted.items():
            value = np.asarray(observation[key])
            if value.shape != array.shape or str(value.dtype) != array.dtype:
                return f"{key} is {value.dtype} {value.shape}, its space {array}"
            if not np.isfinite(value).all():
                return f"{key} holds infinities or not-a-numbers"
    return ""


def _unshared(traces: list[Trace], spec: TaskSpec) -> str:
    """An observation must not be a view of memory that the next step overwrites."""
    first, second = traces[0].observations, traces[1].observations
    for before, after in itertools.pairwise(first):
        for key in before:
            if np.shares_memory(before[key], after[key]):
                return f"{key} of two steps is the same memory: return copies"
    return "no step was taken" if len(second) < 2 else ""


def _position(traces: list[Trace], spec: TaskSpec) -> str:
    if "log/position" not in spec.log:
        return ""
    values = np.stack([o["log/position"] for trace in traces for o in trace.observations])
    inside = (values >= 0).all() and (values <= 1).all()
    return "" if inside else f"log/position reaches {values.min():.2f} to {values.max():.2f}"


def _mask(traces: list[Trace], spec: TaskSpec) -> str:
    if not spec.masked:
        return ""
    masks = np.stack([o[MASK] for trace in traces for o in trace.observations])
    return "" if masks.any(-1).all() else "a mask leaves no choice"


def _rewards(traces: list[Trace], spec: TaskSpec) -> str:
    for reward in (reward for trace in traces for reward in trace.rewards):
        if np.ndim(reward) != 0 or not np.isfinite(float(reward)):
            return f"a reward is {reward!r}"
    return ""


def _flags(traces: list[Trace], spec: TaskSpec) -> str:
    for flag in (flag for trace in traces for pair in trace.flags for flag in pair):
        if not isinstance(flag, bool | np.bool_):
            return f"terminated and truncated must be bool, got {type(flag).__name__}"
    for info in (info for trace in traces for info in trace.infos):
        if not isinstance(info.get("success"), bool | np.bool_):
            return f"info['success'] must be a bool at every step, got {info.get('success')!r}"
    return ""


def _repeatable(traces: list[Trace], spec: TaskSpec) -> str:
    first, second = traces[:2]
    if len(first.observations) != len(second.observations):
        return "the same seed and actions gave episodes of different length"
    pairs = zip(first.observations, second.observations, strict=True)
    for step, (one, other) in enumerate(pairs):
        for key in one:
            if not np.array_equal(one[key], other[key]):
                worst = np.abs(one[key].astype(float) - other[key].astype(float)).max()
                return f"{key} differs by {worst:.3g} at step {step}"
    same = np.array_equal(*(np.array(t.rewards, float) for t in traces[:2]), equal_nan=True)
    return "" if same else "the rewards differ"


def _seeds_differ(env: gymnasium.Env, traces: list[Trace]) -> str:
    if not extras_of(env).start_jitter:
        return ""
    one, other = traces[0].observations, traces[2].observations
    same = all(
        np.array_equal(a[key], b[key])
        for a, b in zip(one, other, strict=False)
        for key in a
        if not key.startswith("log/")
    )
    wanted = "if that is meant, set spec_extras.start_jitter = False"
    return f"seeds 1 and 2 gave the same episode; {wanted}" if same else ""


def _oracle(env: gymnasium.Env, spec: TaskSpec) -> str:
    if not spec.has_oracle:
        return ""
    env.reset(seed=1)
    action = np.asarray(oracle_action(env))
    if spec.action.kind == "discrete":
        return "" if 0 <= int(action) < spec.action.size else f"it chose {action}"
    if action.shape != (spec.action.size,) or action.dtype.kind not in "fiu":
        return f"its action must be {spec.action.size} numbers, got {action!r}"
    inside = np.isfinite(action).all() and (np.abs(action) <= 1).all()
    return "" if inside else f"its action {action} is outside [-1, 1]"


_SPACES: dict[str, Callable[[gymnasium.Env, TaskSpec], str]] = {
    "observes state and / or image": _keys,
    "observations have the right types": _dtypes,
    "actions are in [-1, 1] or discrete": _actions,
    "log keys agree with spec_extras": _extras,
}
_TRACES: dict[str, Callable[[list[Trace], TaskSpec], str]] = {
    "observations fit the space and are finite": _observations,
    "observations are copies": _unshared,
    "log/position lies in [0, 1]": _position,
    "a mask leaves a choice": _mask,
    "rewards are finite numbers": _rewards,
    "flags and success are bools": _flags,
    "the same seed and actions give the same episode": _repeatable,
}
