"""Goals for a planner from a file or from a scripted episode, and how near an episode came to one.

goal.npz        the observation's keys, as the agent sees them
goal.png        for an agent that sees images alone
TASK@STEP       what TASK's scripted policy shows after so many steps of the watched episode
TASK@STEP:SEED  the same of another episode
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policies.agent import Agent
from policies.goals import distance, goal_features
from stages import durable
from tasks import registry
from tasks.adapters import extras_of, oracle_action
from tasks.contract import TaskError, TaskSpec
from tasks.rendering import image_size
from tasks.settings import TaskOptions

Observation = dict[str, np.ndarray]
NEAR = 0.05  # m; who was farther off at the start has arrived within it
FORMS = "a FILE.npz of observations, a FILE.png for an agent that sees images, or TASK@STEP[:SEED]"


@dataclass(frozen=True)
class Goal:
    """What is to be reached, and a frame of it for the film where there is one."""

    observation: Observation
    frame: np.ndarray | None = None  # uint8 [H, W, 3]

    def save(self, path: Path) -> None:
        """Write it as a file that `read_goal` reads."""
        with durable.replaced(path) as partial, partial.open("wb") as file:
            np.savez(file, **self.observation)  # pyright: ignore[reportArgumentType]


def read_goal(text: str, spec: TaskSpec, options: TaskOptions, seed: int) -> Goal:
    """The goal that a user names.

    Args:
        spec: of the task that is watched.
        seed: of its episode.

    Raises:
        TaskError: there is no such goal, or it is none that the agent could see.
    """
    if text.endswith(".npz"):
        found = _load(text)
    elif text.endswith(".png"):
        found = _picture(text, spec, options)
    elif match := re.fullmatch(r"(.+)@(\d+)(?::(\d+))?", text):
        task, step, other = match.groups()
        found = _scripted(text, task, int(step), seed if other is None else int(other), options)
    else:
        raise TaskError(f"--goal {text}: give {FORMS}")
    for name, array in spec.observation.items():
        if name not in found.observation:
            has = ", ".join(sorted(found.observation)) or "nothing"
            raise TaskError(f"--goal {text}: it lacks {name!r}, which the agent sees; it has {has}")
        value = found.observation[name]
        if value.shape != array.shape or not np.can_cast(value.dtype, array.dtype, "same_kind"):
            raise TaskError(
                f"--goal {text}: {name!r} is {value.dtype} {list(value.shape)}, "
                f"the agent sees {array.dtype} {list(array.shape)}"
            )
        if not np.isfinite(value).all():
            raise TaskError(f"--goal {text}: {name!r} holds a number that is not finite")
    seen = {k: found.observation[k].astype(array.dtype) for k, array in spec.observation.items()}
    return Goal(seen, found.frame)


def shown_goal(agent: Agent, goal: Goal) -> Any:
    """The features [F] of a goal, as planners take them."""
    observation = {name: jnp.asarray(value) for name, value in goal.observation.items()}
    size = agent.actor.action.size
    return jax.jit(goal_features, static_argnums=2)(
        agent.model, observation, size, jax.random.key(0)
    )


def approach(
    agent: Agent,
    features: Any,
    goal: Goal,
    states: Sequence[Any],
    observations: Mapping[str, np.ndarray],
    spec: TaskSpec,
    options: TaskOptions,
) -> dict[str, Any]:
    """How far an episode was from its goal: distances as [first, least, last].

    Args:
        states: the agent's states, one a step.
        observations: what it saw, [T, ...].

    Returns:
        Distances in latent space, of each key of the observation (Euclidean of vectors, mean
        absolute of pixels), and of each place that the suite knows, in m; and of the places that
        were farther off than `NEAR` at first, which arrived.
    """
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *states)
    read = jax.jit(jax.vmap(lambda state: distance(agent.model.features(state), features)))
    found = {"latent": np.asarray(read(stacked))}
    for name, array in spec.observation.items():
        off = observations[name].astype(np.float64) - goal.observation[name]
        off = off.reshape(len(off), -1)
        image = len(array.shape) == 3
        found[name] = np.abs(off).mean(1) if image else np.linalg.norm(off, axis=1)
    row: dict[str, Any] = {}
    if (places := registry.extras(spec.name, options).places) is not None:
        end = places({name: value[None] for name, value in goal.observation.items()})
        off = {k: np.linalg.norm(p - end[k], axis=1) for k, p in places(observations).items()}
        found |= {f"{name}_m": value for name, value in off.items()}
        row["arrived"] = {k: bool(v[-1] <= NEAR) for k, v in off.items() if v[0] > NEAR}
    ends = {name: [value[0], value.min(), value[-1]] for name, value in found.items()}
    return {f"to_goal/{n}": [round(float(v), 4) for v in value] for n, value in ends.items()} | row


def _load(text: str) -> Goal:
    try:
        with np.load(text, allow_pickle=False) as file:
            return Goal({name: file[name] for name in file.files})
    except OSError as error:
        raise TaskError(f"--goal {text}: {error.strerror or 'cannot be read'}") from error
    except (ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise TaskError(f"--goal {text}: this is no .npz file of arrays") from error


def _picture(text: str, spec: TaskSpec, options: TaskOptions) -> Goal:
    images = [name for name, array in spec.observation.items() if len(array.shape) == 3]
    if len(images) != 1 or len(spec.observation) > 1:
        seen = ", ".join(spec.observation)
        raise TaskError(f"--goal {text}: a picture is not enough, the agent sees {seen}; use .npz")
    import imageio.v3 as iio

    try:
        picture = np.asarray(iio.imread(text, plugin="pillow", mode="RGB"))
    except OSError as error:
        raise TaskError(f"--goal {text}: {error.strerror or 'this is no picture'}") from error
    return Goal({images[0]: picture}, image_size(picture, options.video_size))


def _scripted(text: str, task: str, step: int, seed: int, options: TaskOptions) -> Goal:
    env = registry.make(task, options)
    try:
        if extras_of(env).oracle is None:
            raise TaskError(f"--goal {text}: {task} has no scripted policy; use a file")
        observation, _ = env.reset(seed=seed)
        for number in range(step):
            observation, _, terminated, truncated, _ = env.step(oracle_action(env))
            if (terminated or truncated) and number + 1 < step:
                raise TaskError(f"--goal {text}: the episode ends after {number + 1} steps")
        try:
            frame = np.asarray(env.render())
        except Exception:  # without OpenGL there is no film either
            frame = None
        return Goal({name: np.array(value) for name, value in observation.items()}, frame)
    finally:
        env.close()
