"""Choosing actions for a batch of environments: at random, by the agent, or by a frozen one."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from policies.agent import Agent, Memory, decide, fresh_memory
from policies.planners import NoPlanner, TreeSearch, build_planner
from policies.settings import Planner as PlannerName
from policies.settings import PlanningSettings
from tasks.contract import MASK, ActionSpec, TaskSpec

Rows = Mapping[str, np.ndarray]
HOLD = 4  # steps for which a random continuous action is held, so that it gets somewhere


@lru_cache(maxsize=16)
def jitted_act(
    planner: PlannerName,
    settings: PlanningSettings,
    greedy: bool,
    waiting: bool = False,
    expecting: bool = False,
) -> Callable[..., Any]:
    """The step of who acts as one jitted call; jobs share it.

    Args:
        waiting: the policy acts, and the planner's turn comes later in the same episodes.
        expecting: it also gives the return that is expected, in the unit of rewards.
    """
    chosen = build_planner(planner, settings)
    if waiting:
        chosen = NoPlanner(chosen)

    def call(
        agent: Agent,
        memory: Memory,
        observation: dict,
        is_first: Any,
        key: PRNGKeyArray,
        count: int,
        bonus_weight: Any = 0.0,
        mask: Any = None,
        goal: Any = None,
        temperature: Any = None,
    ) -> tuple[Any, ...]:
        heated = temperature is not None and planner == "mcts"
        action, memory, value = decide(
            agent,
            memory,
            observation,
            is_first,
            jax.random.fold_in(key, count),
            planner=TreeSearch(settings.search, temperature) if heated else chosen,
            greedy=greedy,
            bonus_weight=bonus_weight,
            mask=mask,
            goal=goal,
        )
        return (action, memory, value / agent.unit) if expecting else (action, memory)

    return eqx.filter_jit(call)


class AgentActor:
    """Acts with an agent and remembers its state; randomness comes from (key, count).

    One that is `expecting` says what discounted return [N] it `expected` when it last acted.
    """

    def __init__(
        self,
        spec: TaskSpec,
        agent: Agent,
        number: int,
        key: PRNGKeyArray,
        *,
        planner: PlannerName,
        greedy: bool,
        settings: PlanningSettings | None = None,
        expecting: bool = False,
    ):
        self.keys = tuple(spec.observation)
        self.key = key
        settings = settings or PlanningSettings()
        self.memory = fresh_memory(agent, number, build_planner(planner, settings))
        self.planner: PlannerName = planner
        # frozen settings have a hash, which type checkers do not see
        self._plan = jitted_act(planner, settings, greedy, False, expecting)  # pyright: ignore[reportArgumentType]
        self.expecting = expecting
        self.expected: np.ndarray | None = None
        self._wait = self._plan
        if planner != "none":
            self._wait = jitted_act(planner, settings, greedy, True, expecting)  # pyright: ignore[reportArgumentType]

    def __call__(
        self,
        agent: Agent,
        rows: Rows,
        count: int,
        *,
        bonus_weight: np.float32 | float | None = 0.0,
        goal: Any = None,
        plan: bool = True,
        temperature: np.float32 | None = None,
    ) -> np.ndarray:
        """Actions [N, A] for the present rows.

        Args:
            bonus_weight: what a planner wants (see `policies.agent.objective_of`).
            goal: the features [F] of what it is to come to instead.
            plan: whether it is the planner's turn; else the policy acts.
            temperature: of a tree search, in the place of its settings' one.
        """
        observation = {name: rows[name] for name in self.keys}
        call = self._plan if plan else self._wait
        action, self.memory, *value = call(
            agent,
            self.memory,
            observation,
            rows["is_first"],
            self.key,
            np.uint32(count),
            bonus_weight,
            rows.get(MASK),
            goal,
            temperature if plan else None,
        )
        self.expected = np.asarray(value[0]) if value else None
        return np.asarray(action)


def random_actions(
    action: ActionSpec, number: int, seed: int, count: int, mask: np.ndarray | None = None
) -> np.ndarray:
    """Uniform actions [N, A] as the agent would give them, among the choices that `mask` [N, A]
    allows: a function of (seed, count) and the mask alone."""
    if action.kind == "discrete":
        rng = np.random.default_rng([seed, count])
        if mask is None:
            chosen = rng.integers(action.size, size=number)
        else:
            chosen = np.where(mask, rng.random(mask.shape), -1.0).argmax(-1)
        return np.eye(action.size, dtype=np.float32)[chosen]
    rng = np.random.default_rng([seed, count // HOLD])
    return rng.uniform(-1, 1, (number, action.size)).astype(np.float32)


def to_simulator(action: ActionSpec, actions: np.ndarray) -> np.ndarray:
    """The agent's actions as the task takes them: numbers, or the index of the choice."""
    return actions.argmax(-1) if action.kind == "discrete" else actions
