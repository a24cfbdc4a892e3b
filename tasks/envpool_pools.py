"""EnvPool's batches, with every episode a function of its own seed.

EnvPool (Weng et al., arXiv 2206.10558) steps many environments in C++ threads by one call. Two of
its habits do not fit the task contract. Seeds are given once, when a pool is made, so that a later
episode depends on how many came before it. And an environment whose episode has ended resets in
its next step by itself, whose row looks like any other.

So a place in a pool serves one episode. Environments that begin together share a pool, made with
their seeds; one that begins anew gets a place in a new pool, and its old place is never stepped
again. Where episodes are equally long, as in Meta-World, all environments stay in one pool; where
they are not, there are at most as many pools as environments, stepped side by side.
"""

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Seen = dict[str, np.ndarray]
"""What EnvPool told of n environments: arrays [n, ...] by name. `obs`, or `obs.NAME` where it is a
dict, `info.NAME`, `reward`, `done` (bool), `elapsed` (steps since the reset). What it tells of each
player has an axis of players after the first."""

MakePool = Callable[[str, Sequence[int], Mapping[str, Any]], Any]  # id, seeds, config -> a pool


@dataclass(frozen=True)
class Recipe:
    """How to make the environment of one episode."""

    id: str  # EnvPool's name of the task
    seed: int  # below 2^31; whatever EnvPool draws follows from it
    config: tuple[tuple[str, Any], ...] = ()  # other arguments of `envpool.make_gymnasium`
    alone: bool = False  # two players: EnvPool cannot step a part of such a pool


def make_pool(id: str, seeds: Sequence[int], config: Mapping[str, Any]) -> Any:
    """A pool with one environment per seed."""
    envpool: Any = importlib.import_module("envpool")  # late: nobody else has to have it
    number = len(seeds)
    cores = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    threads = min(number, len(cores))
    return envpool.make_gymnasium(
        id, num_envs=number, seed=list(seeds), num_threads=threads, **config
    )


class Pools:
    """`number` environments, each with a place in some pool once it was started."""

    def __init__(self, number: int, make: MakePool | None = None) -> None:
        self._make = make or make_pool
        self._places: list[tuple[Any, int] | None] = [None] * number  # pool, place in it
        self._steps = np.zeros(number, int)  # since the start
        self._last: list[tuple[Seen, int] | None] = [None] * number  # told at last, row in it

    def start(self, recipes: Mapping[int, Recipe]) -> Seen:
        """Begin an episode in each of some environments (index -> recipe); rows in their order."""
        self.drop(recipes)
        shared: dict[Any, list[int]] = {}
        for index, recipe in recipes.items():
            alone = index if recipe.alone else None
            shared.setdefault((recipe.id, recipe.config, alone), []).append(index)
        order = {index: row for row, index in enumerate(recipes)}
        asked = []
        for (id, config, _), indices in shared.items():
            pool = self._make(id, [recipes[index].seed for index in indices], dict(config))
            for place, index in enumerate(indices):
                self._places[index] = pool, place
            pool.async_reset()
            asked.append((pool, [order[index] for index in indices]))
        self._steps[list(recipes)] = 0
        return self._receive(asked, list(recipes))

    def step(self, indices: Sequence[int], actions: np.ndarray) -> Seen:
        """Step some environments, [n] or [n, A] actions in their order.

        Raises:
            RuntimeError: an environment was not started, or had ended.
        """
        shared: dict[int, tuple[Any, list[int], list[int]]] = {}
        for row, index in enumerate(indices):
            if (found := self._places[index]) is None:
                raise RuntimeError(f"environment {index} was not started")
            pool, place = found
            _, rows, places = shared.setdefault(id(pool), (pool, [], []))
            rows.append(row)
            places.append(place)
        for pool, rows, places in shared.values():  # all of them, before any is waited for
            pool.send(actions[rows], np.array(places, np.int32))
        self._steps[list(indices)] += 1
        return self._receive([(pool, rows) for pool, rows, _ in shared.values()], indices)

    def last(self, indices: Iterable[int]) -> Seen:
        """What was told at last of some environments, in their order."""
        found = [last for index in indices if (last := self._last[index]) is not None]
        names = found[0][0]
        return {name: np.stack([seen[name][row] for seen, row in found]) for name in names}

    def render(self, indices: Iterable[int]) -> np.ndarray:
        """EnvPool's own pictures, uint8 [n, H, W, 3]; the recipe must set `render_mode`."""
        places = [place for index in indices if (place := self._places[index]) is not None]
        return np.concatenate([pool.render(env_ids=[place]) for pool, place in places])

    def drop(self, indices: Iterable[int]) -> None:
        """Give up places; a pool ends with the last of them."""
        for index in indices:
            self._places[index] = self._last[index] = None

    def _receive(self, asked: list[tuple[Any, list[int]]], indices: Sequence[int]) -> Seen:
        """Wait for every pool, and put what it tells into the rows that were asked of it."""
        parts = [(rows, told(pool.recv(), len(rows))) for pool, rows in asked]
        seen = parts[0][1] if len(parts) == 1 else _joined(parts, len(indices))
        for row, index in enumerate(indices):
            self._last[index] = seen, row
        if (wrong := seen["elapsed"] != self._steps[list(indices)]).any():
            index = indices[int(wrong.argmax())]
            raise RuntimeError(f"environment {index} had ended, and began anew by itself")
        return seen


def told(received: tuple[Any, ...], number: int) -> Seen:
    """One pool's answer by name, with `number` rows in each array."""
    observation, reward, terminated, truncated, info = received
    parts = _flat("obs", observation) | _flat("info", info)
    parts |= {"reward": reward, "done": np.asarray(terminated) | np.asarray(truncated)}
    parts["elapsed"] = parts.pop("info.elapsed_step")
    return {name: _rows(np.asarray(part), number) for name, part in parts.items()}


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    parts = (_flat(f"{name}.{inner}", part) for inner, part in value.items())
    return {full: part for found in parts for full, part in found.items()}


def _rows(array: np.ndarray, number: int) -> np.ndarray:
    """With an axis of players where there are more rows than environments."""
    return array if len(array) == number else array.reshape(number, -1, *array.shape[1:])


def _joined(parts: list[tuple[list[int], Seen]], number: int) -> Seen:
    whole = {
        name: np.empty((number, *array.shape[1:]), array.dtype)
        for name, array in parts[0][1].items()
    }
    for rows, seen in parts:
        for name, array in whole.items():
            array[rows] = seen[name]
    return whole
