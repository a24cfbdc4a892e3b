"""Probe tasks: each asks for one ability, and what a learner must come to is known exactly.

| task | episode | what must be learnt |
|---|---|---|
| `constant` | 4 steps, each pays 1 | its value |
| `observed` | 4 steps, each pays the cue, which is shown | its value, read from the cue |
| `delayed` | 4 steps, the last pays 1 | its value, discounted |
| `act` | 8 steps, each pays 1 for the right choice, else -1 | an action that is always right |
| `read` | 8 steps, each pays choice x cue, then a new cue | the action that the cue names |
| `wait` | left pays 1 at once, right pays 2 after 4 steps | which of them the discount wants |
| `recall` | 4 steps, the last pays choice x the first's cue | the action of a cue long gone |

Every one comes with two choices, or with one number whose sign is the choice.
"""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

LENGTH = {"act": 8, "read": 8}  # others: 4
WITH_CUE = {"observed", "read"}  # shown at every step; `recall` shows it at the first


class Probe(gymnasium.Env):
    """One of the tasks above; the observation is the cue, then the time as a one-hot row of 9."""

    def __init__(self, ability: str, discrete: bool) -> None:
        self.ability, self.discrete = ability, discrete
        self.length = LENGTH.get(ability, 4)
        self.observation_space = Box(-1.0, 1.0, (10,), np.float32)
        self.action_space: Any = Discrete(2) if discrete else Box(-1.0, 1.0, (1,), np.float32)
        self.time, self.cue, self.waits = 0, 1.0, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time, self.waits = 0, False
        self.cue = self._draw()
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        right = bool(action == 1) if self.discrete else bool(np.asarray(action).ravel()[0] > 0)
        choice = 1.0 if right else -1.0
        first, last = self.time == 0, self.time == self.length - 1
        reward = 0.0
        match self.ability:
            case "constant":
                reward = 1.0
            case "observed":
                reward = self.cue
            case "delayed":
                reward = 1.0 * last
            case "act":
                reward = choice
            case "read":
                reward = choice * self.cue
                self.cue = self._draw()
            case "wait":
                self.waits = right if first else self.waits
                reward = 1.0 * (first and not right) + 2.0 * (last and self.waits)
            case "recall":
                reward = choice * self.cue * last
        self.time += 1
        return self._observation(), reward, last, False, {}

    def _draw(self) -> float:
        return 1.0 if self.np_random.random() < 0.5 else -1.0

    def _observation(self) -> np.ndarray:
        shown = self.ability in WITH_CUE or (self.ability == "recall" and self.time == 0)
        time = np.eye(9, dtype=np.float32)[self.time]
        return np.append(np.float32(self.cue if shown else 0.0), time)


# One factory per task, as dotted paths ask for.
make_constant_discrete = partial(Probe, "constant", True)
make_constant_continuous = partial(Probe, "constant", False)
make_observed_discrete = partial(Probe, "observed", True)
make_observed_continuous = partial(Probe, "observed", False)
make_delayed_discrete = partial(Probe, "delayed", True)
make_delayed_continuous = partial(Probe, "delayed", False)
make_act_discrete = partial(Probe, "act", True)
make_act_continuous = partial(Probe, "act", False)
make_read_discrete = partial(Probe, "read", True)
make_read_continuous = partial(Probe, "read", False)
make_wait_discrete = partial(Probe, "wait", True)
make_wait_continuous = partial(Probe, "wait", False)
make_recall_discrete = partial(Probe, "recall", True)
make_recall_continuous = partial(Probe, "recall", False)
