"""Runs on probe tasks (`tests/probes.py`), and what their agents came to."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from policies.agent import Agent
from policies.q_learning import QAgent
from stages import checkpoints, transfer
from stages.acting import AgentActor
from stages.explore import fresh_agent
from stages.records import json_lines
from stages.settings import Study
from tasks import registry
from tests import tiny
from tests.probes import Probe

KINDS = ["discrete", "continuous"]
# What remains to be had with discount 0.9, at each of four steps: 1 a step, or 1 at the end.
EACH = np.array([1 + 0.9 + 0.81 + 0.729, 1 + 0.9 + 0.81, 1.9, 1.0])
LAST = np.array([0.729, 0.81, 0.9, 1.0])

StudyOf = Callable[[str, str, float], Study]  # of an ability, a task and a discount


def probe_study(task: str, discount: float, steps: int, **changes: Any) -> Study:
    """What the studies of all families share; `changes` are tables merged into it."""
    table: dict[str, Any] = {
        "tasks": {"explore": task, "episode_length": None},
        "model": {"width": 64, "layers": 2, "bins": 63, "reward_scale": 3},
        "behaviour": {
            "width": 64,
            "layers": 2,
            "bins": 63,
            "discount": discount,
            "entropy": 3e-3,  # choices at random for long enough to see what the other pays
        },
        "training": {
            "environments": 8,
            "batch_size": 16,
            "batch_length": 16,
            "updates_per_call": 10,
            "env_steps_per_update": 2,
            "prefill_steps": 200,
            "model_learning_rate": 1e-3,
            "actor_learning_rate": 1e-3,
            "critic_learning_rate": 1e-3,
        },
        "transfer": {"steps": steps},
        "evaluate": {"curve_points": 2, "curve_episodes": 32, "environments": 16},
    }
    for section, values in changes.items():
        table[section] = table.get(section, {}) | values
    return tiny.study(task, **table)


class Runs:
    """Agents that learnt from nothing, each run once: by ability, kind and discount."""

    def __init__(self, study_of: StudyOf, folder: Callable[[str], Path]) -> None:
        self.learnt = cache(self._learn)
        self._study_of, self._folder = study_of, folder

    def _learn(self, ability: str, kind: str, discount: float) -> tuple[Study, Path]:
        task = f"probes.py:make_{ability}_{kind}"
        study = self._study_of(ability, task, discount)
        folder = self._folder(f"{ability}-{kind}")
        transfer.run(study, transfer.Inputs(task, "scratch", 0), folder)
        return study, folder

    def final_return(self, ability: str, kind: str, discount: float = 0.9) -> float:
        """Mean return of the last evaluation."""
        _, folder = self.learnt(ability, kind, discount)
        rows = json_lines(folder / "metrics.jsonl")
        return [row["return"] for row in rows if row["kind"] == "evaluation"][-1]

    def values(self, ability: str, kind: str) -> list[tuple[float, np.ndarray]]:
        """(cue, the critic's values of the states of an episode [4]) of ten episodes."""
        study, folder = self.learnt(ability, kind, 0.9)
        spec = registry.spec(study.tasks.transfer[0], study.tasks)
        fresh = fresh_agent(study, spec, 0, "transfer", curious=False)
        agent = checkpoints.restore_agent(checkpoints.find(folder), fresh)
        actor = AgentActor(spec, agent, 1, jax.random.key(0), planner="none", greedy=True)
        value = jax.jit(lambda features: worth(agent, features))
        out = []
        for seed in range(10):
            probe = Probe(ability, kind == "discrete")
            seen = probe.reset(seed=seed)[0]
            row = []
            for step in range(4):
                rows = {"state": seen[None], "is_first": np.array([step == 0])}
                action = actor(agent, rows, 10 * seed + step)[0]
                state = jax.tree.map(lambda x: x[0], actor.memory.state)
                row.append(float(value(agent.model.features(state))))
                seen = probe.step(int(action.argmax()) if kind == "discrete" else action)[0]
            out.append((probe.cue, np.array(row)))
        return out


def worth(agent: Agent, features: Array) -> Array:
    """What a state is worth to an agent: its critic's mean, or that of the actions it would try."""
    if isinstance(agent, QAgent):
        return agent.ask(features[None, None], jax.random.key(0)).value[0, 0]
    return agent.critic(features).mean()
