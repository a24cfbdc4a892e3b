"""Tasks by name: `suite/task[:variant]`, `gymnasium:ID`, `module:factory`, `file.py:factory`.

make("desk/push_left:sparse", options)   an environment that follows `tasks.contract`
spec("desk/push_left:sparse", options)   its plain-data description
check("desk/push_lef")                   TaskError: unknown task ..., nearest: desk/push_left
expand(["metaworld/ml10-test"])          the tasks that a split stands for
"""

import difflib
import functools
import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from tasks import adapters, factories
from tasks.contract import FAULTS, MASK, PureTask, SpecExtras, TaskError, TaskSpec, spec_of
from tasks.envpool_task import EnvPoolTask
from tasks.rendering import choose_gl
from tasks.settings import TaskOptions
from tasks.suite import Suite

# A suite is one line here and one module with a `SUITE`.
SUITES = {
    "desk": "tasks.desk",
    "robodesk": "tasks.robodesk",
    "crafter": "tasks.crafter",
    "metaworld": "tasks.metaworld",
    "dm_control": "tasks.dm_control",
    "maze": "tasks.maze",
    "procgen": "tasks.procgen",
    "atari": "tasks.atari",
    "jumanji": "tasks.jumanji",
    "go": "tasks.go",
    "metaworld_envpool": "tasks.metaworld_envpool",
    "dm_control_envpool": "tasks.dm_control_envpool",
}

_TRIED_STEPS = 3  # of a user's own task, before anything else is done with it


@dataclass(frozen=True)
class Name:
    """A task's name, taken apart."""

    kind: Literal["suite", "gymnasium", "file", "module"]
    head: str  # suite, "gymnasium", path, or module
    tail: str  # task, environment id, or factory
    variant: str = ""


def parse(name: str) -> Name:
    """Take a task's name apart by its form alone; nothing is looked up.

    Raises:
        TaskError: the name has none of the four forms.
    """
    if name.startswith("gymnasium:"):
        return Name("gymnasium", "gymnasium", name.removeprefix("gymnasium:"))
    if ".py:" in name:
        path, _, factory = name.rpartition(":")
        return Name("file", path, factory)
    body, _, variant = name.partition(":")
    suite, slash, task = body.partition("/")
    if slash:
        return Name("suite", suite, task, variant)
    if variant:
        return Name("module", body, variant)
    raise TaskError(
        f"task {name!r}: expected suite/task[:variant], gymnasium:ID, package.module:factory "
        f"or path/to/file.py:factory{_nearest(name, _known_names())}"
    )


def suites() -> dict[str, Suite]:
    """Every suite, in the order of the table."""
    return {name: _suite(name) for name in SUITES}


def expand(names: Sequence[str]) -> tuple[str, ...]:
    """Replace each split by its tasks; other names stay. Duplicates go, order stays.

    A variant on a split (`robodesk/readme9:sparse`) holds for each of its tasks.

    Raises:
        TaskError: a name is unknown.
    """
    tasks: list[str] = []
    for name in names:
        parts = parse(name)
        split = _split(parts)
        if split is None:
            check(name)
            tasks.append(name)
            continue
        suffix = f":{parts.variant}" if parts.variant else ""
        members = [task if ":" in task else task + suffix for task in split]
        expanded = [f"{parts.head}/{task}" for task in members]
        for task in expanded:
            check(task)
        tasks.extend(expanded)
    return tuple(dict.fromkeys(tasks))


def check(name: str) -> None:
    """Say whether `name` is a task, without building a simulator.

    Raises:
        TaskError: the suite, task, variant, environment id, file, module or factory is unknown;
            the message gives the nearest valid names.
    """
    parts = parse(name)
    match parts.kind:
        case "suite":
            _check_suite_task(name, parts)
        case "gymnasium":
            factories.check_id(name, parts.tail)
        case "file":
            factories.check_file(name, Path(parts.head), parts.tail)
        case "module":
            factories.check_module(name, parts.head, parts.tail)


def pure(name: str) -> PureTask:
    """A task as a pure function of its `state` observations.

    Raises:
        TaskError: the name is unknown, or the task's step is no pure function.
    """
    check(name)
    parts = parse(name)
    suite = _suite(parts.head) if parts.kind == "suite" else None
    if suite is None or suite.pure is None:
        able = ", ".join(other for other, found in suites().items() if found.pure)
        raise TaskError(f"task {name!r}: its step is no pure function; suites where it is: {able}")
    return suite.pure(parts.tail, parts.variant or default_variant(suite))


def make(name: str, options: TaskOptions) -> gymnasium.Env:
    """Build one environment that follows `tasks.contract`, with action repeat and length cap.

    Raises:
        TaskError: the name is unknown, its package is not installed, the task cannot follow the
            contract as asked, or it has no levels and `options.levels` asks for some.
    """
    check(name)
    check_installed(name)
    return _build(name, options)


def _build(name: str, options: TaskOptions) -> gymnasium.Env:
    _check_levels(name, options)
    _check_observes(name, options)
    choose_gl()  # before any simulator is imported: MuJoCo reads MUJOCO_GL only then
    options = plain(options)
    parts = parse(name)
    match parts.kind:
        case "suite":
            suite = _suite(parts.head)
            env = suite.make(parts.tail, parts.variant or default_variant(suite), options)
        case "gymnasium":
            env = factories.make_id(name, parts.tail, options)
        case "file":
            env = factories.make_file(name, Path(parts.head), parts.tail, options)
        case "module":
            env = factories.make_module(name, parts.head, parts.tail, options)
    return adapters.limit(env, options)


def envpool_task(name: str, options: TaskOptions) -> EnvPoolTask | None:
    """The rules of a task that EnvPool steps, for one batch; None where something else does."""
    parts = parse(name)
    suite = _suite(parts.head) if parts.kind == "suite" else None
    if suite is None or suite.envpool is None:
        return None
    variant = parts.variant or default_variant(suite)
    return suite.envpool(parts.tail, variant, plain(options))


def check_installed(name: str) -> None:
    """Say what to install where a task of ours needs an extra. Others are built, or fail to be.

    Raises:
        TaskError: something is missing.
    """
    parts = parse(name)
    suite = _suite(parts.head) if parts.kind == "suite" and parts.head in SUITES else None
    if suite is not None and suite.missing is not None and (what := suite.missing(parts.tail)):
        raise TaskError(f"task {name!r} needs {what}")


def spec(name: str, options: TaskOptions) -> TaskSpec:
    """Describe a task. It is built once, without rendering, and the answer is kept.

    A task of ours that needs an extra can be described without it.

    Raises:
        TaskError: as `make`.
    """
    # frozen settings can be hashed, which the type checker does not see
    return _spec(name, plain(options))  # pyright: ignore[reportArgumentType]


def extras(name: str, options: TaskOptions) -> SpecExtras:
    """What a task's suite knows beyond its spaces; `relabel` and `places` outlive the environment.

    Raises:
        TaskError: as `make`.
    """
    env = make(name, options)
    env.close()
    return adapters.extras_of(env)


def try_out(name: str, options: TaskOptions) -> None:
    """Take a user's own task through its first steps, so that what fails at once is told at once.

    Of ours it is only asked whether they are installed.

    Raises:
        TaskError: as `make`; or it fails, or its observations are not those that its space says.
    """
    if parse(name).kind == "suite":
        check_installed(name)
        return
    env = make(name, options)
    action = 0 if isinstance(env.action_space, Discrete) else np.zeros(env.action_space.shape or ())
    try:
        observation, _ = env.reset(seed=0)
        _check_row(name, observation, 0.0)
        for _ in range(_TRIED_STEPS):
            observation, reward, terminated, truncated, _ = env.step(action)
            _check_row(name, observation, float(reward))
            if terminated or truncated:
                break
    except TaskError:
        raise
    except FAULTS as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise TaskError(f"task {name!r} fails in its first steps: {told}") from error
    finally:
        env.close()


def _check_row(name: str, observation: dict[str, np.ndarray], reward: float) -> None:
    """Refuse numbers that are none, and a mask that leaves no choice."""
    for key, value in ({"reward": np.float32(reward)} | observation).items():
        if not np.isfinite(value).all():
            raise TaskError(
                f"task {name!r} fails in its first steps: {key} is not a finite number: {value}"
            )
    if MASK in observation and not observation[MASK].any():
        raise TaskError(f"task {name!r} fails in its first steps: its mask leaves no choice")


def source_file(name: str) -> Path | None:
    """The user's file behind `file.py:factory`, so that a run can keep a copy; None otherwise."""
    parts = parse(name)
    return Path(parts.head).resolve() if parts.kind == "file" else None


def default_variant(suite: Suite) -> str:
    """The variant that a name without one means."""
    return suite.variants[0] if suite.variants else ""


def plain(options: TaskOptions) -> TaskOptions:
    """`options` without what a subclass adds (a study's [tasks] also lists task names)."""
    if type(options) is TaskOptions:
        return options
    return TaskOptions(**{field: getattr(options, field) for field in TaskOptions.model_fields})


def unseen(options: TaskOptions) -> TaskOptions:
    """`options` for levels that training never meets where `levels` confines it.

    They do not depend on `levels`, so that agents trained on few and on many meet the same ones.
    """
    return plain(options).model_copy(update={"levels": None})


@functools.lru_cache(maxsize=256)
def _spec(name: str, options: TaskOptions) -> TaskSpec:
    check(name)
    env = _build(name, options)
    try:
        return spec_of(name, env, getattr(env, "episode_length", None))
    finally:
        env.close()


@functools.cache
def _suite(name: str) -> Suite:
    return importlib.import_module(SUITES[name]).SUITE


def _split(parts: Name) -> tuple[str, ...] | None:
    if parts.kind != "suite" or parts.head not in SUITES:
        return None
    return _suite(parts.head).splits.get(parts.tail)


def _check_suite_task(name: str, parts: Name) -> None:
    if parts.head not in SUITES:
        near = _nearest(name, _known_names()) or f"; suites: {', '.join(SUITES)}"
        raise TaskError(f"task {name!r}: unknown suite {parts.head!r}{near}")
    suite = _suite(parts.head)
    if parts.tail in suite.splits:
        raise TaskError(
            f"task {name!r}: {parts.tail!r} is a split of {len(suite.splits[parts.tail])} tasks, "
            "where one task is wanted"
        )
    if parts.tail not in suite.tasks:
        known = [f"{suite.name}/{task}" for task in (*suite.tasks, *suite.splits)]
        near = _nearest(f"{parts.head}/{parts.tail}", known) or f"; see craik tasks {suite.name}"
        raise TaskError(f"task {name!r}: {suite.name} has no task {parts.tail!r}{near}")
    if parts.variant and parts.variant not in suite.variants:
        choices = ", ".join(suite.variants) or "none"
        raise TaskError(
            f"task {name!r}: {suite.name} has no variant {parts.variant!r}; variants: {choices}"
        )


def _check_levels(name: str, options: TaskOptions) -> None:
    parts = parse(name)
    if options.levels is None:
        return
    if parts.kind == "suite" and parts.tail in _suite(parts.head).levels:
        return
    having = ", ".join(suite.name for suite in suites().values() if suite.levels)
    raise TaskError(
        f"task {name!r} has no levels that tasks.levels = {options.levels} could choose from; "
        f"suites with levels: {having}"
    )


def _check_observes(name: str, options: TaskOptions) -> None:
    parts = parse(name)
    seen = _suite(parts.head).observes if parts.kind == "suite" else options.observe
    if not set(options.observe) <= set(seen):
        wanted = ", ".join(f"'{what}'" for what in seen)
        raise TaskError(
            f"task {name!r} shows {'pictures' if 'image' in seen else 'states'} only; "
            f"set tasks.observe = [{wanted}]"
        )


def _known_names() -> list[str]:
    return [f"{suite.name}/{task}" for suite in suites().values() for task in suite.tasks]


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; nearest: {', '.join(close)}" if close else ""
