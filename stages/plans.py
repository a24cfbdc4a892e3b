"""What a sampling planner saw in an episode: its plans, and what was foreseen of them.

A plan is a function of the memory before it, the observation and the random key of its step, all of
which are kept while an episode is watched. So every plan is made again afterwards, to the last bit,
and this time it tells of all its candidates; acting is not slowed down by it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from policies.agent import Agent, Memory, objective_of
from policies.goals import GoalObjective
from policies.mpc import MPC, Looked
from policies.objectives import Objective
from policies.plan import PlannerMemory
from policies.planners import build_planner
from policies.settings import PlanningSettings
from stages.acting import AgentActor
from tasks.contract import MASK
from world_models.contract import State

Row = Mapping[str, np.ndarray]  # of one environment

NOT_SEEN = ("is_first", "is_last", "reward", MASK)  # parts of a row beside the observation
FANS = 4  # steps of an episode of which candidates are drawn
DRAWN = 16  # of their candidates


@dataclass(frozen=True)
class Fan:
    """Candidates of one step, from the worst to the best, and what was foreseen of each."""

    step: int
    returns: np.ndarray  # [n]
    foreseen: dict[str, np.ndarray]  # vectors of the observation, [n, H, k]


@dataclass(frozen=True)
class Plans:
    """The plans of an episode of T steps, and what came of it. Returns are in the task's unit."""

    returns: np.ndarray  # [T, N], of every candidate of the last round
    expected: np.ndarray  # [T], of the plan that was chosen
    chosen: np.ndarray  # [T, H, a]
    rewards: np.ndarray  # [T, H], foreseen of the chosen plan
    foreseen: dict[str, np.ndarray]  # vectors of the observation, [T, H, k]
    fans: list[Fan]
    observed: dict[str, np.ndarray]  # vectors, [T + 1, k]
    paid: np.ndarray  # [T], rewards that came
    discount: float
    comparable: bool  # what was wanted is the task's reward, so that it can be compared

    @property
    def came(self) -> np.ndarray:
        """The discounted rewards that came from each step on, [T]."""
        sums = np.zeros(len(self.paid) + 1)
        for step in range(len(self.paid) - 1, -1, -1):
            sums[step] = self.paid[step] + self.discount * sums[step + 1]
        return sums[:-1]

    def summary(self) -> dict[str, float]:
        """What was expected at the first step; what came, and the mean error of the reward foreseen
        of the next step, where they can be compared."""
        found = {"expected_return": float(self.expected[0])}
        if self.comparable:
            found["discounted_return"] = float(self.came[0])
            found["reward_error"] = float(np.abs(self.rewards[:, 0] - self.paid).mean())
        return {name: round(value, 4) for name, value in found.items()}


def seen_plans(
    agent: Agent,
    actor: AgentActor,
    rows: Sequence[Row],
    memories: Sequence[Memory],
    settings: PlanningSettings,
    *,
    greedy: bool,
    wants: Mapping[str, Any],
) -> Plans:
    """The plans of one episode of one environment, from its first step on.

    Args:
        actor: it has acted by `cem` or `mppi`, as `settings` say.
        rows: what it saw [T + 1], the last without acting on it.
        memories: after each of them but the last, of a batch of one.
        wants: see `AgentActor`.
    """
    planner = build_planner(actor.planner, settings)
    assert isinstance(planner, MPC), "others draw no sequences"
    goal, weight = wants.get("goal"), wants.get("bonus_weight", 0.0)
    unit = 1.0 if goal is not None else agent.unit
    steps = len(rows) - 1
    look, foresee = _looker(planner, greedy), _foreseer(tuple(_vectors(rows[0])))
    states = [agent.model.root(first(memory.state)) for memory in memories[:steps]]
    shown = {round(x) for x in np.linspace(0, steps - 1, min(FANS, steps))}
    before = planner.initial(agent.actor)
    looked, fans = [], []
    for step, state in enumerate(states):
        asked = (before, actor.key, np.uint32(step), weight, goal, rows[step].get(MASK))
        found = look(agent, state, *asked)
        returns = np.asarray(found.candidates.returns) / unit
        looked.append((returns, np.asarray(found.plan.value) / unit, np.asarray(found.chosen)))
        if step in shown:
            order = np.argsort(returns)
            some = order[np.linspace(0, len(order) - 1, min(DRAWN, len(order))).astype(int)]
            each = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(some), *x.shape)), state)  # noqa: B023
            ahead = foresee(agent, each, found.candidates.actions[some], actor.key, weight, goal)
            fans.append(Fan(step, returns[some], jax.tree.map(np.asarray, ahead[1])))
        before = first(memories[step].plan)
    returns, expected, chosen = (np.stack(each) for each in zip(*looked, strict=True))
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *states)
    rewards, vectors = foresee(agent, stacked, chosen, actor.key, weight, goal)
    return Plans(
        returns=returns,
        expected=expected,
        chosen=chosen,
        rewards=np.asarray(rewards) / unit,
        foreseen=jax.tree.map(np.asarray, vectors),
        fans=fans,
        observed={name: np.stack([row[name] for row in rows]) for name in _vectors(rows[0])},
        paid=np.array([float(row["reward"]) for row in rows[1:]]),
        discount=agent.behaviour.discount,
        comparable=goal is None and weight == 0.0,
    )


def first(tree: PyTree) -> PyTree:
    """The arrays of the first environment of a batch."""
    return jax.tree.map(lambda x: x[0], tree)


def _vectors(row: Row) -> list[str]:
    """The keys of an observation that are vectors."""
    return [k for k, x in row.items() if k not in NOT_SEEN and x.ndim == 1]


def _wanted(agent: Agent, weight: Any, goal: Any) -> Objective:
    if goal is not None:
        return GoalObjective(goal, agent.behaviour.discount)
    return objective_of(agent, weight)


@lru_cache(maxsize=2)
def _looker(planner: MPC, greedy: bool) -> Callable[..., Looked]:
    """A plan made again, with the key that `policies.agent.decide` gives the first environment."""

    def look(
        agent: Agent,
        state: State,
        before: PlannerMemory,
        key: PRNGKeyArray,
        count: Any,
        weight: Any,
        goal: Any,
        mask: Any,
    ) -> Looked:
        plan_key = jax.random.split(jax.random.fold_in(key, count))[1]
        own = jax.random.split(plan_key, 1)[0]
        asked = (agent.model, agent.actor, _wanted(agent, weight, goal), state, before, own)
        return planner.look(*asked, greedy=greedy, mask=mask)

    return eqx.filter_jit(look)


@lru_cache(maxsize=2)
def _foreseer(vectors: tuple[str, ...]) -> Callable[..., tuple[Array, dict[str, Array]]]:
    """Rewards [n, H] and predicted observations {name: [n, H, k]} of action sequences."""

    def foresee(
        agent: Agent, states: State, actions: Array, key: PRNGKeyArray, weight: Any, goal: Any
    ) -> tuple[Array, dict[str, Array]]:
        model, objective = agent.model, _wanted(agent, weight, goal)

        def one(state: State, actions: Array, chances: Any) -> tuple[Array, dict[str, Array]]:
            def step(now: State, row: tuple[Array, Any]) -> tuple[State, tuple]:
                action, chance = row
                after = model.imagine(now, action, chance)
                read = model.features(now), action, model.features(after)
                told = model.decoder(read[2]) if agent.foresees else {}
                seen = {name: told[name] for name in vectors if name in told}
                return after, (objective.reward(*read), seen)

            return jax.lax.scan(step, state, (actions, chances))[1]

        return jax.vmap(one)(states, actions, model.noise(key, actions.shape[:2]))

    return eqx.filter_jit(foresee)
