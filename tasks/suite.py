"""What a suite of tasks says about itself.

Each suite module (`tasks.desk`, `tasks.robodesk`, ...) exposes one `SUITE: Suite`. Importing such a
module must be cheap: the simulator is imported inside `Suite.make`, because listing tasks and
checking a study's names must not build, or even import, a simulator.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import gymnasium

from tasks.contract import PureTask
from tasks.envpool_task import EnvPoolTask
from tasks.settings import TaskOptions


@dataclass(frozen=True)
class Suite:
    """A named family of tasks with one way to build them.

    `make(task, variant, options)` returns an environment that follows `tasks.contract`:
    Dict observations as asked by `options.observe`, actions in [-1, 1] or discrete,
    `info["success"]` at every step, `render()` at `options.video_size`, `spec_extras`, and an
    attribute `episode_length: int | None` (simulator steps until truncation). Action repeat
    and `options.episode_length` are applied on top by the registry, so `make` ignores both.
    `task` is a key of `tasks`; `variant` is one of `variants`, or "" where there are none.
    """

    name: str
    description: str
    tasks: Mapping[str, str]  # task -> what it asks for, in one line
    make: Callable[[str, str, TaskOptions], gymnasium.Env]
    variants: tuple[str, ...] = ()  # the first is the default
    levels: tuple[str, ...] = ()  # tasks whose levels have seeds, as `options.levels` wants it
    observes: tuple[Literal["state", "image"], ...] = ("state", "image")  # what can be seen of it
    envpool: Callable[[str, str, TaskOptions], EnvPoolTask] | None = None
    """(task, variant, options) -> its rules, where EnvPool steps it, which is an extra."""
    missing: Callable[[str], str] | None = None
    """task -> what is not installed that it needs, in one line; "" where nothing is missing."""
    pure: Callable[[str, str], PureTask] | None = None
    """(task, variant) -> the task as a pure function of its `state` observations, if it is one."""
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Split -> its tasks, as `task` or `task:variant`, without the suite's name."""
