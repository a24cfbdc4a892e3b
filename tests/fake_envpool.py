"""A pool that behaves as EnvPool's do, and a task on it, so that the rules need no EnvPool."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete

from tasks.adapters import observation_space
from tasks.contract import SpecExtras, TaskSpec, spec_of
from tasks.envpool_pools import Recipe, Seen
from tasks.envpool_task import EnvPoolEnv, EnvPoolTask, Rows, endings
from tasks.settings import TaskOptions

LIMIT = 6


class FakePool:
    """Counts. An environment of seed s ends by itself after 2 + s % 7 steps, or at `LIMIT`.

    Like EnvPool's, it takes seeds only here, draws on from them at every reset, steps what it is
    asked to, and resets what has ended instead of stepping it.
    """

    def __init__(self, id: str, seeds: Sequence[int], config: Mapping[str, Any]) -> None:
        self.id, self.seeds, self.config = id, list(seeds), dict(config)
        self._random = [np.random.default_rng(seed) for seed in seeds]
        self._start, self._time = [0.0] * len(seeds), [0] * len(seeds)
        self._done = [True] * len(seeds)
        self._asked: list[int] = []
        self._rewards: list[float] = []

    def async_reset(self) -> None:
        self._begin(range(len(self.seeds)))

    def send(self, actions: np.ndarray, places: np.ndarray) -> None:
        assert places.dtype == np.int32
        assert len(actions) == len(places)
        for place, action in zip(places.tolist(), actions.tolist(), strict=True):
            if self._done[place]:
                self._begin([place])
                continue
            self._time[place] += 1
            self._done[place] = self._time[place] >= min(LIMIT, 2 + self.seeds[place] % 7)
            self._asked.append(place)
            self._rewards.append(float(action))

    def recv(self) -> tuple[Any, ...]:
        places, rewards = self._asked, np.array(self._rewards, np.float32)
        self._asked, self._rewards = [], []
        time = np.array([self._time[place] for place in places])
        done = np.array([self._done[place] for place in places])
        observation = {
            "start": np.array([self._start[place] for place in places]),
            "inner": {"time": time},
        }
        info = {"elapsed_step": time, "env_id": np.array(places)}
        return observation, rewards, done & (time < LIMIT), done & (time >= LIMIT), info

    def _begin(self, places: Sequence[int]) -> None:
        for place in places:
            self._start[place] = self._random[place].uniform()
            self._time[place], self._done[place] = 0, False
            self._asked.append(place)
            self._rewards.append(0.0)


class Counting(EnvPoolTask):
    """A state of the start and the time; a choice's number is its reward."""

    def __init__(self, options: TaskOptions, id: str = "counting") -> None:
        super().__init__(options)
        self.id = id
        self.observation_space = observation_space(options, 2)
        self.action_space = Discrete(4)
        self.episode_length, self.spec_extras = LIMIT, SpecExtras()

    def recipe(self, seed: int) -> Recipe:
        return Recipe(self.id, seed)

    def read(self, seen: Seen, indices: Sequence[int]) -> Rows:
        return {
            "state": np.stack([seen["obs.start"], seen["obs.inner.time"]], 1).astype(np.float32),
            "reward": seen["reward"],
            "success": (seen["reward"] == 3) & (seen["obs.inner.time"] % 2 == 1),
            **endings(seen, LIMIT),
        }


def counting_spec(options: TaskOptions) -> TaskSpec:
    return spec_of("counting", EnvPoolEnv(Counting(options)), options.episode_length or LIMIT)
