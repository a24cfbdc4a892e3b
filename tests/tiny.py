"""Tiny settings, specs and batches for tests of the numerical core."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policies.agent import Agent, build_agent
from policies.settings import (
    AgentSettings,
    BehaviourSettings,
    CuriositySettings,
    LearningSettings,
    PlanningSettings,
    SearchSettings,
)
from stages.settings import Study
from tasks.contract import ActionSpec, ArraySpec, TaskSpec
from world_models.settings import ModelSettings, MuZeroSettings

MODEL = ModelSettings(width=16, layers=1, recurrent=16, latents=4, classes=4, bins=15)
BEHAVIOUR = BehaviourSettings(
    width=16, layers=1, imagination_starts=8, imagination_horizon=3, bins=15
)
MUZERO = MuZeroSettings(latent=12, unroll=2, projection=8)
LEARNING = LearningSettings(n_steps=2)
SEARCH = SearchSettings(simulations=3, actions=4, considered=2)
CURIOSITY = CuriositySettings(heads=3, width=16)
STATE = {"state": ArraySpec((3,), "float32")}
IMAGE = {"image": ArraySpec((32, 32, 3), "uint8")}
CONTINUOUS = ActionSpec("continuous", 2)
DISCRETE = ActionSpec("discrete", 3)


def task_spec(
    observation: dict[str, ArraySpec] | None = None, action: ActionSpec = CONTINUOUS
) -> TaskSpec:
    """A spec without a simulator behind it."""
    return TaskSpec(
        name="tests/nothing",
        observation=observation or STATE,
        log={},
        action=action,
        metric="return",
        episode_length=10,
        objects=(),
        achievements=(),
        has_oracle=False,
        variant={},
        control_hz=None,
    )


def agent(
    *,
    stage: str = "transfer",
    curious: bool = False,
    curiosity: Any = "disagreement",
    observation: dict[str, ArraySpec] | None = None,
    action: ActionSpec = CONTINUOUS,
    model: ModelSettings = MODEL,
    behaviour: BehaviourSettings = BEHAVIOUR,
    seed: int = 0,
    world_model: Any = "rssm",
    learn: Any = "mcts",
    muzero: MuZeroSettings = MUZERO,
    learning: LearningSettings = LEARNING,
    planning: PlanningSettings | None = None,
) -> Agent:
    """A fresh tiny agent; `learn` plans where the world model is MuZero's, without a `planning`."""
    return build_agent(
        task_spec(observation, action),
        AgentSettings(world_model=world_model, curiosity=curiosity),
        model,
        behaviour,
        CURIOSITY,
        muzero,
        learning,
        planning
        or PlanningSettings(learn="none" if world_model == "rssm" else learn, search=SEARCH),
        seed=seed,
        stage=stage,
        curious=curious or stage == "explore",
    )


def batch(
    *lead: int,
    observation: dict[str, ArraySpec] | None = None,
    action: ActionSpec = CONTINUOUS,
    seed: int = 0,
) -> dict[str, jax.Array]:
    """A random batch [*lead, ...], `lead` being (B, T) or (updates, B, T); no row is a first."""
    rng = np.random.default_rng(seed)
    out: dict[str, Any] = {}
    for name, spec in (observation or STATE).items():
        if spec.dtype == "uint8":
            out[name] = rng.integers(0, 256, (*lead, *spec.shape), np.uint8)
        else:
            out[name] = rng.normal(size=(*lead, *spec.shape)).astype(np.float32)
    if action.kind == "discrete":
        out["action"] = np.eye(action.size, dtype=np.float32)[rng.integers(action.size, size=lead)]
    else:
        out["action"] = rng.uniform(-1, 1, (*lead, action.size)).astype(np.float32)
    out["reward"] = rng.normal(size=lead).astype(np.float32)
    out["is_first"] = np.zeros(lead, bool)
    out["is_terminal"] = np.zeros(lead, bool)
    out["reward_known"] = np.ones(lead, np.float32)
    return {name: jnp.asarray(value) for name, value in out.items()}


def study(task: str = "desk/reach:dense", **changes: Any) -> Study:
    """A study that runs in seconds; `changes` are tables merged into its own."""
    table: dict[str, Any] = {
        "name": "tiny",
        "seeds": 1,
        "tasks": {"explore": "desk/free", "transfer": [task], "episode_length": 10},
        "model": {
            "width": 16,
            "layers": 1,
            "recurrent": 16,
            "latents": 4,
            "classes": 4,
            "bins": 15,
        },
        "behaviour": {
            "width": 16,
            "layers": 1,
            "imagination_starts": 8,
            "imagination_horizon": 3,
            "bins": 15,
        },
        "curiosity": {"heads": 2, "width": 16},
        "training": {
            "environments": 2,
            "batch_size": 4,
            "batch_length": 8,
            "updates_per_call": 2,
            "prefill_steps": 24,
        },
        "replay": {"chunk": 16},
        "agent": {},
        "explore": {"steps": 80},
        "transfer": {"steps": 80},
        "evaluate": {
            "episodes": 2,
            "curve_points": 2,
            "curve_episodes": 2,
            "environments": 2,
            "video_episodes": 0,
        },
    }
    for section, values in changes.items():
        table[section] = table.get(section, {}) | values if isinstance(values, dict) else values
    return Study.model_validate(table)
