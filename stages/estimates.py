"""Estimates of a job before it runs: updates, parameters, memory, disk, time.

Memory is the peak of one job in a process of its own, when nothing is compiled yet:

    process         Python, JAX, MuJoCo, the compiled policy step
    compiling       the update's program, where the job learns
    environments    those of training and those examined beside them, as large as their suite's
    training state  weights, moments, gradients, updates, and the copy that acts
    batches         three calls' worth: drawn, placed, and in use
    activations     kept for the backward pass, and by plans that are learnt from
    replay          whole chunks, up to its budget

What learns from real steps (the MuZero family and its control) imagines nothing: its time is that
of unrolls and plans, and it has slow copies of its weights. Whoever learns from plans plans anew at
each update (`planning.learn`), from a share of its states.

Disk is what stays of a job: checkpoint, `start/`, replay, episodes, film. Parameters, updates and
bytes of replay are counted; the constants are fits to measured jobs (benchmarks/memory.py), and
time is rough.
"""

import math
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from policies import candidates
from policies.agent import COMPONENTS, Agent
from policies.planner_names import evaluated
from policies.slow import SlowAgent
from stages.explore import HELD_OUT_EPISODES, fresh_agent
from stages.settings import Study, planned_updates
from tasks.contract import TaskSpec
from world_models.observations import is_image

Stage = Literal["explore", "transfer", "evaluate"]
Role = Literal["collect", "learn", "evaluate"]

GIB = 2**30
MIB = 2**20
PROCESS_BYTES = 570 * MIB
COMPILING_BYTES = 800 * MIB
COMPILING_OTHERS_BYTES = 550 * MIB  # where nothing is imagined: learning from real steps
COMPILING_PLANNER_BYTES = 250 * MIB  # more, for a planner or the search that gives targets
WORKER_BYTES = 300 * MIB  # a simulator process; its environments count apart
ENVIRONMENT_BYTES = {  # one environment of a suite
    "desk": 2 * MIB,
    "robodesk": 100 * MIB,
    "metaworld": 55 * MIB,
    "crafter": 8 * MIB,
}
OTHER_ENVIRONMENT_BYTES = 20 * MIB
OVER_BY = {"crafter": 300}  # env steps of an episode, where hardly any lasts until the task's limit
RENDERER_BYTES = 27 * MIB  # of an environment that draws what it observes
FILM_BYTES = 0.0075  # per pixel
EPISODE_BYTES = 300  # a line of episodes.jsonl
ACTIVATIONS = 60  # numbers kept for the backward pass, per unit of width, and step or dream
PLANNED = 16  # numbers kept while planning, per unit of width and sequence
PLANNED_WITH = ("encoder", "dynamics", "reward_head", "critic")
IMAGE_ACTIVATIONS = 36  # per number of an image
REMEMBERED = 2  # copies of each number that a latent knows of the steps before
COPIES = 6  # weights, two moments, gradient, update, and the copy that acts
SLOW_COPIES = 3  # of slow copies: themselves, their update, and the copy that acts
# Weights and two moments, compressed somewhat; `start/` is a copy more.
STORED_COPIES = {"explore": 2.6, "transfer": 3.7}
STORED_SLOW = {"explore": 0.9, "transfer": 1.8}  # of slow copies
CHECKPOINT_BYTES = 80 * 2**10  # around the arrays
FLOPS_PER_SECOND = 75e9  # of one core on small matrices, measured; a GPU is far faster
NODE_SECONDS = 4e-6  # of one simulation of a tree search, besides the model's products
CANDIDATE_SECONDS = 1e-6  # of the value of one action, where there is no model to search in
REAL_STEPS_RATE = 0.5 * FLOPS_PER_SECOND  # of learning from real steps, which is less of products
EVALUATION_RATE = 800.0  # env steps per second, policy step included


def estimate(
    study: Study,
    spec: TaskSpec,
    stage: Stage,
    steps: int,
    curious: bool,
    relabelled_updates: int = 0,
    planner: str | None = None,
) -> dict[str, Any]:
    """What one job takes.

    Args:
        steps: env steps of training; 0 for an evaluation.
        curious: whether the agent has an explorer.
        relabelled_updates: in the place of env steps.
        planner: of an evaluation beside the main one.

    Returns:
        parameters, updates, memory_bytes, disk_bytes, seconds (one core).
    """
    agent = eqx.filter_eval_shape(
        lambda: fresh_agent(
            study, spec, 0, "explore" if stage == "explore" else "transfer", curious=curious
        )
    )
    parameters = _parameters(agent)
    memory = PROCESS_BYTES + _environments(study, spec, stage)
    if stage == "evaluate":
        times = 1 + (planner is None)  # the main one acts before the first update, too
        times += study.tasks.levels is not None  # and all on the levels of the training
        acted = times * study.evaluate.episodes * _steps_of_an_episode(spec)
        if planner is not None:
            planning = evaluated(planner, study.planning)
            study = study.model_copy(update={"planning": planning})
        number = min(study.evaluate.environments, study.evaluate.episodes)
        planning, working = _planning(study, agent, "evaluate", acted, number)
        seconds = acted / EVALUATION_RATE + planning
        memory += 8 * parameters + working + _compiling_planners(study, "evaluate")
        disk = times * EPISODE_BYTES * study.evaluate.episodes
        disk += 0 if planner else _film(study, spec)
        return _row(parameters, 0, memory, disk, seconds)
    training = study.training
    acted = max(0, steps - training.prefill_steps)
    planning, working = _planning(study, agent, "collect", acted, training.environments)
    memory += working
    updates = relabelled_updates or planned_updates(training, steps)
    rows = training.batch_size * training.batch_length
    replay = _replay(study, spec, steps)
    kept = min(replay, int(study.replay.memory_gib * GIB))
    batches = _row_bytes(spec) * rows * training.updates_per_call
    each, activations = _update(study, spec, agent)
    slow = _parameters(agent.slow) if isinstance(agent, SlowAgent) else 0
    learnt = parameters - slow
    weights = 4 * (COPIES * learnt + SLOW_COPIES * slow)
    memory += _compiling(study, agent) + weights + kept + 3 * batches + activations
    stored = 4 * (STORED_COPIES[stage] * learnt + STORED_SLOW[stage] * slow) + CHECKPOINT_BYTES
    disk = stored + min(replay, int(study.replay.disk_gib * GIB))
    return _row(parameters, updates, memory, int(disk), updates * each + planning)


def _compiling(study: Study, agent: Agent) -> int:
    """Bytes that compiling an update takes, and who plans while collecting or in it."""
    update = COMPILING_OTHERS_BYTES if isinstance(agent, SlowAgent) else COMPILING_BYTES
    return update + _compiling_planners(study, "collect", "learn")


def _compiling_planners(study: Study, *roles: Role) -> int:
    """Bytes more where somebody plans in these roles; not more where several do."""
    planned = any(getattr(study.planning, role) != "none" for role in roles)
    return planned * COMPILING_PLANNER_BYTES


def _update(study: Study, spec: TaskSpec, agent: Agent) -> tuple[float, int]:
    """Seconds of one update, and bytes that it keeps for its backward pass."""
    training, b = study.training, study.behaviour
    rows = training.batch_size * training.batch_length
    images = sum(int(np.prod(s.shape)) for s in spec.observation.values() if is_image(s))
    if isinstance(agent, SlowAgent):
        seconds, steps, planned = _from_real_steps(study, agent)
    else:
        starts = min(b.imagination_starts, rows)
        steps = rows + starts * b.imagination_horizon
        seconds = 6.0 * _parameters(agent) * steps / FLOPS_PER_SECOND
        planned = max(1, round(study.planning.learn_share * starts))
    planning, working = _planning(study, agent, "learn", planned, planned)
    seconds += planning
    seconds += 40.0 * images * rows * study.model.image_depth / FLOPS_PER_SECOND
    width = max(study.model.width, b.width)
    kept = ACTIVATIONS * width * steps + IMAGE_ACTIVATIONS * images * rows
    kept += REMEMBERED * _remembered(agent) * rows
    return seconds, 4 * kept + working


def _remembered(agent: Agent) -> int:
    """Numbers of the steps before one that its latent knows."""
    if not isinstance(agent, SlowAgent):
        return 0
    encoder = agent.encoder
    return encoder.context * (encoder.observation.outputs + encoder.actions)


def _from_real_steps(study: Study, agent: SlowAgent) -> tuple[float, int, int]:
    """Seconds of one update but for images and plans, latents that it keeps gradients of, and
    states that it may plan from."""
    training, learning = study.training, study.learning
    rows = training.batch_size * training.batch_length
    size = {name: _parameters(getattr(agent, name)) for name in COMPONENTS}
    ahead = study.muzero.unroll if agent.foresees else 0
    roots = training.batch_length - agent.encoder.context - learning.n_steps - ahead
    roots *= training.batch_size
    foreseen = size["dynamics"] + size["decoder"] + size["reward_head"]
    heads = size["actor"] + size["critic"]
    flops = 6.0 * (size["encoder"] + heads) * roots + 6.0 * (foreseen + heads) * roots * ahead
    flops += 2.0 * (size["encoder"] + size["critic"]) * rows + 6.0 * size["explorer"] * rows
    seconds = 0.0
    if study.agent.world_model == "none":  # asks for the value of every candidate
        asked = candidates.number(agent.actor, study.planning.search) * rows
        flops += 2.0 * size["critic"] * asked
        seconds = CANDIDATE_SECONDS * asked
    planned = max(1, round(learning.reanalyse * training.batch_size)) * (
        roots // training.batch_size
    )
    return flops / REAL_STEPS_RATE + seconds, roots * (ahead + 1), planned


def _node_seconds(agent: Agent) -> float:
    """One simulation of a tree search: a step of the model, three heads, and the tree itself."""
    names = ("reward_head", "actor", "critic", "dynamics")
    if not agent.foresees or not isinstance(agent, SlowAgent):
        names += ("encoder",)  # which holds the recurrent core, or reads what a simulator shows
    parameters = sum(_parameters(getattr(agent, name)) for name in names)
    return NODE_SECONDS + 2.0 * parameters / FLOPS_PER_SECOND


def _planning(
    study: Study,
    agent: Agent,
    role: Role,
    steps: int,
    number: int,
) -> tuple[float, int]:
    """Seconds of the planning for so many steps, and bytes of it for `number` at once."""
    p = study.planning
    if getattr(p, role) == "none":
        return 0.0, 0
    width = max(study.model.width, study.behaviour.width)
    if getattr(p, role) == "mcts":
        nodes = p.search.simulations
        working = 4 * PLANNED * width * nodes * number
        return nodes * steps * _node_seconds(agent), working
    # a step is imagined by what is recurrent and the prior, and judged by two heads
    each = sum(_parameters(getattr(agent, name)) for name in PLANNED_WITH)
    by_policy = round(p.policy_share * p.samples)  # which are imagined once
    sequences = by_policy + (p.samples - by_policy) * p.iterations
    flops = 2.0 * each * sequences * p.horizon * steps
    working = 4 * PLANNED * width * p.samples * number
    return flops / FLOPS_PER_SECOND, working


def _steps_of_an_episode(spec: TaskSpec) -> int:
    """Env steps that an episode may be expected to last."""
    limit = spec.episode_length or 1000
    return min(limit, OVER_BY.get(spec.name.split("/")[0], limit))


def _environments(study: Study, spec: TaskSpec, stage: Stage) -> int:
    """Bytes of the simulators that a job has at once."""
    settings = study.evaluate
    examined = {
        "explore": HELD_OUT_EPISODES,
        "transfer": settings.curve_episodes,
        "evaluate": settings.episodes,
    }[stage]
    number = min(settings.environments, examined)
    batches = 1
    if stage != "evaluate":
        number, batches = number + study.training.environments, 2
    each = ENVIRONMENT_BYTES.get(spec.name.split("/")[0], OTHER_ENVIRONMENT_BYTES)
    if any(is_image(array) for array in spec.observation.values()):
        each += RENDERER_BYTES
    return number * each + batches * study.training.workers * WORKER_BYTES


def _replay(study: Study, spec: TaskSpec, steps: int) -> int:
    """Bytes of a replay's chunks, of which each environment's last is as large as any."""
    chunk, streams = study.replay.chunk, study.training.environments
    return (steps // (chunk * streams) + 1) * chunk * streams * _row_bytes(spec)


def _film(study: Study, spec: TaskSpec) -> int:
    """Bytes of the film of an evaluation."""
    settings = study.evaluate
    films = min(settings.video_episodes, settings.episodes, settings.environments)
    frames = films * min(settings.video_steps, spec.episode_length or settings.video_steps)
    return int(FILM_BYTES * frames * study.tasks.video_size**2)


def _row(parameters: int, updates: int, memory: int, disk: int, seconds: float) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "updates": updates,
        "memory_bytes": int(memory),
        "disk_bytes": int(disk),
        "seconds": seconds,
    }


def _parameters(agent: PyTree) -> int:
    leaves = jax.tree.leaves(eqx.filter(agent, lambda x: hasattr(x, "shape")))
    return sum(math.prod(leaf.shape) for leaf in leaves)


def _row_bytes(spec: TaskSpec) -> int:
    """Bytes of one replay row: observation, mask, action, reward, three flags."""
    observed = sum(
        math.prod(s.shape) * np.dtype(s.dtype).itemsize for s in spec.observation.values()
    )
    observed += spec.action.size if spec.masked else 0
    return observed + 4 * spec.action.size + 4 + 3
