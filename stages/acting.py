"""Choosing actions for a batch of environments: at random, by the agent, or by a frozen one."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from policies.agent import Agent, Memory, act, fresh_memory
from policies.planners import build_planner
from policies.settings import Planner as PlannerName
from tasks.contract import ActionSpec, TaskSpec

Rows = Mapping[str, np.ndarray]
HOLD = 4  # steps for which a random continuous action is held, so that it gets somewhere


@lru_cache(maxsize=8)
def jitted_act(planner: PlannerName, greedy: bool) -> Callable[..., Any]:
    """The policy step as one jitted call; jobs share it."""
    chosen = build_planner(planner)

    def call(
        agent: Agent,
        memory: Memory,
        observation: dict,
        is_first: Any,
        key: PRNGKeyArray,
        count: int,
    ) -> tuple[Any, Memory]:
        step_key = jax.random.fold_in(key, count)
        return act(agent, memory, observation, is_first, step_key, planner=chosen, greedy=greedy)

    return eqx.filter_jit(call)


class AgentActor:
    """Acts with an agent and remembers its state; randomness comes from (key, count)."""

    def __init__(
        self,
        spec: TaskSpec,
        agent: Agent,
        number: int,
        key: PRNGKeyArray,
        *,
        planner: PlannerName,
        greedy: bool,
    ):
        self.keys = tuple(spec.observation)
        self.key = key
        self.memory = fresh_memory(agent, number)
        self._act = jitted_act(planner, greedy)

    def __call__(self, agent: Agent, rows: Rows, count: int) -> np.ndarray:
        """Actions [N, A] for the present rows."""
        observation = {name: rows[name] for name in self.keys}
        count_array = np.uint32(count)
        action, self.memory = self._act(
            agent, self.memory, observation, rows["is_first"], self.key, count_array
        )
        return np.asarray(action)


def random_actions(action: ActionSpec, number: int, seed: int, count: int) -> np.ndarray:
    """Uniform actions [N, A] as the agent would give them: a function of (seed, count) alone."""
    if action.kind == "discrete":
        rng = np.random.default_rng([seed, count])
        return np.eye(action.size, dtype=np.float32)[rng.integers(action.size, size=number)]
    rng = np.random.default_rng([seed, count // HOLD])
    return rng.uniform(-1, 1, (number, action.size)).astype(np.float32)


def to_simulator(action: ActionSpec, actions: np.ndarray) -> np.ndarray:
    """The agent's actions as the task takes them: numbers, or the index of the choice."""
    return actions.argmax(-1) if action.kind == "discrete" else actions
