"""Estimates of a job before it runs: updates, parameters, memory, disk, time.

Parameters, updates and bytes of replay are counted; activations and time are rough. The constants
are fits to measured jobs (docs/performance.md).
"""

import math
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np

from policies.agent import Agent
from stages.explore import fresh_agent
from stages.settings import Study, planned_updates
from tasks.contract import TaskSpec
from world_models.observations import is_image

GIB = 2**30
PROCESS_BYTES = 1100 * 2**20  # Python, JAX, MuJoCo, compiled programs
ACTIVATIONS = 60  # numbers kept for the backward pass, per unit of width, and step or dream
COPIES = 6  # weights, two moments, gradient, update, and the copy that acts
FLOPS_PER_SECOND = 75e9  # of one core on small matrices, measured; a GPU is far faster
EVALUATION_RATE = 800.0  # env steps per second, policy step included


def estimate(
    study: Study,
    spec: TaskSpec,
    stage: Literal["explore", "transfer", "evaluate"],
    steps: int,
    curious: bool,
) -> dict[str, Any]:
    """What one job takes.

    Args:
        steps: env steps of training; 0 for an evaluation.
        curious: whether the agent has an explorer.

    Returns:
        parameters, updates, memory_bytes, disk_bytes, seconds (one core).
    """
    agent = eqx.filter_eval_shape(
        lambda: fresh_agent(
            study, spec, 0, "explore" if stage == "explore" else "transfer", curious=curious
        )
    )
    parameters = _parameters(agent)
    if stage == "evaluate":
        length = spec.episode_length or 1000
        seconds = 2 * study.evaluate.episodes * length / EVALUATION_RATE
        memory = PROCESS_BYTES + 8 * parameters
        return _row(parameters, 0, memory, 2**20, seconds)
    training = study.training
    updates = planned_updates(training, steps)
    rows = training.batch_size * training.batch_length
    replay = _row_bytes(spec) * steps
    kept = min(replay, int(study.replay.memory_gib * GIB))
    batches = _row_bytes(spec) * rows * training.updates_per_call
    b = study.behaviour
    dreams = min(b.imagination_starts, rows) * b.imagination_horizon
    width = max(study.model.width, b.width)
    activations = 4 * ACTIVATIONS * width * (rows + dreams)
    images = sum(int(np.prod(s.shape)) for s in spec.observation.values() if is_image(s))
    activations += 4 * 12 * images * rows
    memory = PROCESS_BYTES + 4 * COPIES * parameters + kept + 3 * batches + activations
    flops = 6.0 * parameters * (rows + dreams) + 40.0 * images * rows * study.model.image_depth
    disk = 3 * 4 * parameters + min(replay, int(study.replay.disk_gib * GIB)) + 2**20
    return _row(parameters, updates, memory, disk, updates * flops / FLOPS_PER_SECOND)


def _row(parameters: int, updates: int, memory: int, disk: int, seconds: float) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "updates": updates,
        "memory_bytes": int(memory),
        "disk_bytes": int(disk),
        "seconds": seconds,
    }


def _parameters(agent: Agent) -> int:
    leaves = jax.tree.leaves(eqx.filter(agent, lambda x: hasattr(x, "shape")))
    return sum(math.prod(leaf.shape) for leaf in leaves)


def _row_bytes(spec: TaskSpec) -> int:
    """Bytes of one replay row: observation, action, reward, three flags."""
    observed = sum(
        math.prod(s.shape) * np.dtype(s.dtype).itemsize for s in spec.observation.values()
    )
    return observed + 4 * spec.action.size + 4 + 3
