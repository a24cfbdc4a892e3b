"""How well the model foresees held-out episodes: context first, then nothing but its own dreams."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from policies.agent import Agent
from stages import durable
from stages.rollout import Examination
from stages.videos import write_video
from world_models.distributions import symlog

CONTEXT = 5  # steps observed before the model is on its own
HORIZON = 15  # steps over which the error is taken
SHOWN = 45  # steps of the picture


@lru_cache(maxsize=2)
def _predictor(context: int) -> Any:
    def predict(agent: Agent, observation: dict, action: Array, key: PRNGKeyArray) -> dict:
        """Predicted observations [T, ...] of one episode: observed, then imagined."""
        model = agent.model
        length = action.shape[0]
        previous = jnp.concatenate([jnp.zeros_like(action[:1]), action[:-1]])

        def step(before: tuple[Any, Any], row: tuple) -> tuple[tuple[Any, Any], dict]:
            index, act, seen, drawn = row
            memory = model.observe(before[0], act, seen, index == 0, drawn)
            ways = model.root(memory), model.imagine(before[1], act, drawn)
            state = jax.tree.map(lambda a, b: jnp.where(index < context, a, b), *ways)
            return (memory, state), model.decoder(model.features(state))

        noise = model.noise(key, (length,))
        rows = (jnp.arange(length), previous, observation, noise)
        start = model.initial()
        return jax.lax.scan(step, (start, model.root(start)), rows)[1]

    return eqx.filter_jit(jax.vmap(predict, in_axes=(None, 0, 0, 0)))


class HeldOut:
    """Episodes that are never trained on, collected afresh by the present policy."""

    def __init__(self, examination: Examination):
        self.examination = examination
        self.length = CONTEXT + SHOWN

    def collect(self, agent: Agent | None) -> dict[str, np.ndarray]:
        """The first steps of one episode per environment: [N, T, ...] with actions."""
        exam = self.examination
        choose = exam.agent_chooser(agent, 0, greedy=False) if agent else exam.random_chooser()
        rows: list[dict[str, np.ndarray]] = []

        def recording(now: Any, count: int) -> np.ndarray:
            actions = choose(now, count)
            kept = {name: np.array(now[name]) for name in (*exam.spec.observation, "is_first")}
            rows.append(kept | {"action": actions})
            return actions

        exam.run(recording, steps=self.length)
        return {name: np.stack([row[name] for row in rows], 1) for name in rows[0]}

    def predict(self, agent: Agent, episodes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Predictions [N, T, ...] for the episodes."""
        keys = jax.random.split(jax.random.key(0), episodes["action"].shape[0])
        observation = {name: episodes[name] for name in self.examination.spec.observation}
        predicted = _predictor(CONTEXT)(agent, observation, episodes["action"], keys)
        return {name: np.asarray(value) for name, value in predicted.items()}

    def errors(self, agent: Agent, episodes: dict[str, np.ndarray]) -> tuple[float, float]:
        """Open-loop error over `HORIZON` steps, and that of predicting no change.

        Mean squared error of symlogged vectors, of pixels in [0, 1] for images; steps after an
        episode's end do not count.
        """
        predicted = self.predict(agent, episodes)
        window = slice(CONTEXT, CONTEXT + HORIZON)
        alive = (
            np.cumsum(episodes["is_first"][:, 1:], 1)[:, CONTEXT - 1 : CONTEXT - 1 + HORIZON] == 0
        )
        model, still = [], []
        for name in self.examination.spec.observation:
            truth, guess = _scale(episodes[name]), _scale(predicted[name])
            last = truth[:, CONTEXT - 1 : CONTEXT]
            axes = tuple(range(2, truth.ndim))
            model.append(np.square(guess[:, window] - truth[:, window]).mean(axes)[alive])
            still.append(np.square(last - truth[:, window]).mean(axes)[alive])
        return float(np.mean(np.concatenate(model))), float(np.mean(np.concatenate(still)))

    def save(self, agent: Agent, folder: Path) -> None:
        """Write `open_loop.npz` (and a video for images) of the first held-out episode."""
        episodes = self.collect(agent)
        predicted = self.predict(agent, episodes)
        ended = np.flatnonzero(episodes["is_first"][0, 1:])
        end = int(ended[0]) + 1 if ended.size else episodes["is_first"].shape[1]
        arrays: dict[str, Any] = {"context": CONTEXT}
        for name in self.examination.spec.observation:
            truth, guess = episodes[name][0, :end], predicted[name][0, :end]
            suffix = "_image" if truth.ndim == 4 else ""
            arrays |= {f"truth{suffix}": truth, f"prediction{suffix}": guess}
            if suffix:
                error = np.abs(truth.astype(int) - guess).astype(np.uint8)
                strip = np.concatenate([truth, guess, error], 2)
                frames = list(strip.repeat(3, 1).repeat(3, 2))
                write_video(folder / "videos" / "open_loop.mp4", frames, 10.0)
        with durable.replaced(folder / "open_loop.npz") as partial:
            np.savez(partial, **arrays)


def _scale(x: np.ndarray) -> np.ndarray:
    if x.dtype == np.uint8:
        return x.astype(np.float32) / 255.0
    return np.asarray(symlog(jnp.asarray(x)))
