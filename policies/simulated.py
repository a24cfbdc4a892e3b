"""The agent that plans in the simulator itself: what it learns is a policy and a value.

It stands beside the MuZero-style agent as the case in which the model is never wrong: the same
encoder, heads, n-step values, searches, slow copies and bonuses, but nothing foreseen is learnt.
The components hold: `encoder` the observation nets, `actor` the policy, `critic` the value, each
with its slow copy, and `explorer` where there is one.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from policies.actor import ActionDistribution, Actor
from policies.components import build_explorer
from policies.muzero import MuZeroAgent
from policies.search_agent import SearchAgent
from policies.settings import (
    AgentSettings,
    BehaviourSettings,
    CuriositySettings,
    LearningSettings,
    PlanningSettings,
)
from policies.slow import View
from policies.values import ValueHead
from tasks import registry
from tasks.contract import ActionSpec, PureTask, TaskSpec
from world_models.contract import Batch
from world_models.distributions import RootTwoHot
from world_models.encoder import Encoder
from world_models.muzero import spread
from world_models.running import Running
from world_models.settings import ModelSettings, MuZeroSettings
from world_models.simulator import TOLD, Simulator


class LatentActor(Actor):
    """Component `actor`: it reads the latent, and not what the simulator told."""

    def __init__(
        self, latent: int, action: ActionSpec, settings: BehaviourSettings, *, key: PRNGKeyArray
    ):
        super().__init__(latent, action, settings, key=key)

    def __call__(self, features: Float[Array, " f"]) -> ActionDistribution:
        return super().__call__(features[:-TOLD])


class LatentValue(ValueHead):
    """Component `critic`: likewise."""

    def __init__(self, latent: int, settings: BehaviourSettings, *, key: PRNGKeyArray):
        super().__init__(latent, settings, key=key)

    def __call__(self, features: Float[Array, " f"]) -> RootTwoHot:
        return super().__call__(features[:-TOLD])


class SimulatorAgent(SearchAgent):
    """An encoder, a policy and a value over a simulator."""

    encoder: Encoder
    critic: LatentValue
    task: PureTask = eqx.field(static=True)
    observed: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)
    pays: bool = eqx.field(static=True)

    @property
    def model(self) -> Simulator:
        return Simulator(self.encoder, self.task, self.observed, self.pays)

    def view(self, batch: Batch, stage: str) -> View:
        slow, roots = self.slowly.model, batch["is_first"].shape[1] - self.learning.n_steps
        latents = self.model.encode(batch, roots)
        came = slow.moments(batch, jax.lax.stop_gradient(slow.encode(batch)))
        read = jax.vmap(jax.vmap(self.model.features))
        features = read(self.model.moments(batch, latents))[:, :, None]
        metrics = {"latent/spread": spread(latents)}
        return View(features, came, read(came), jnp.zeros(()), metrics)


def in_the_simulator(agent: MuZeroAgent, like: SimulatorAgent) -> SimulatorAgent:
    """The encoder, policy and value of an agent with a learnt model, to plan in the simulator with
    them; `like` has their sizes. It has no explorer, and is its own slow copy."""
    parts = {
        name: jax.tree.unflatten(
            jax.tree.structure(getattr(like, name)), jax.tree.leaves(getattr(agent, name))
        )
        for name in ("encoder", "actor", "critic")
    }
    taken = eqx.tree_at(lambda a: tuple(getattr(a, n) for n in parts), like, tuple(parts.values()))
    return eqx.tree_at(lambda a: a.slow.value, taken, parts)


def build_simulator_agent(
    spec: TaskSpec,
    agent: AgentSettings,
    model: ModelSettings,
    behaviour: BehaviourSettings,
    curiosity: CuriositySettings,
    muzero: MuZeroSettings,
    learning: LearningSettings,
    planning: PlanningSettings,
    keys: Mapping[str, PRNGKeyArray],
    *,
    stage: str,
    curious: bool,
) -> SimulatorAgent:
    """A fresh agent; `keys` has one random key per component.

    Raises:
        TaskError: the task's step is no pure function.
    """
    explorer, latent = None, muzero.latent
    if curious:
        explorer = build_explorer(spec, agent, curiosity, latent + TOLD, keys["explorer"])
    parts: dict[str, Any] = {
        "encoder": Encoder(spec.observation, model, latent, key=keys["encoder"]),
        "actor": LatentActor(latent, spec.action, behaviour, key=keys["actor"]),
        "critic": LatentValue(latent, behaviour, key=keys["critic"]),
    }
    return SimulatorAgent(
        **parts,
        dynamics=None,
        decoder=None,
        reward_head=None,
        explorer=explorer,
        model_settings=model,
        behaviour=behaviour,
        slow=Running(parts),
        learning=learning,
        planning=planning,
        task=registry.pure(spec.name),
        observed=tuple((name, array.shape) for name, array in sorted(spec.observation.items())),
        pays=stage != "explore",
    )
