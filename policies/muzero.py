"""The MuZero-style agent: it learns to foresee, and values and a policy from real steps.

Components are those of `world_models.muzero`, with `actor` and `critic` (a two-hot value head) that
read latents. Each has a slow copy, which belongs to the component that it copies: it gives the
embeddings of self-supervision, the bootstrap values, and the model in which states of the replay
are searched again.

Of the steps of a sequence that have a latent all but the last K + n are roots, unrolled K steps by
the actions taken; what the heads learn along an unroll is in `policies.search_agent`.

Exploring, the reward of a real step is its bonus, and searches want the bonus alone.
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from policies.actor import Actor
from policies.components import build_explorer
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
from tasks.contract import TaskSpec
from world_models.contract import Batch
from world_models.encoder import Encoder
from world_models.muzero import (
    LOSSES,
    Decoder,
    Dynamics,
    MuZero,
    RewardHead,
    build_muzero,
    spread,
)
from world_models.running import Running
from world_models.settings import ModelSettings, MuZeroSettings
from world_models.windows import without_context


class MuZeroAgent(SearchAgent):
    """Components of the model, actor, critic, and the slow copies of all of them."""

    encoder: Encoder
    dynamics: Dynamics
    decoder: Decoder
    reward_head: RewardHead
    critic: ValueHead
    muzero: MuZeroSettings = eqx.field(static=True)

    @property
    def model(self) -> MuZero:
        parts = (self.encoder, self.dynamics, self.decoder, self.reward_head)
        return MuZero(*parts, self.model_settings, self.muzero)

    def view(self, batch: Batch, stage: str) -> View:
        model, slow = self.model, self.slowly.model
        seen = jax.lax.stop_gradient(slow.encode(batch))
        roots = seen.shape[1] - self.muzero.unroll - self.learning.n_steps
        first = model.encode(batch, roots)
        batch = without_context(batch, self.encoder.context)
        unrolled = model.unroll(first, batch["action"])
        losses = model.losses(batch, unrolled, seen, slow.decoder.projector)
        weights = self.loss_weights(stage)
        metrics = {f"loss/{name}": value for name, value in losses.items()}
        metrics["latent/spread"] = spread(first)
        metrics["latent/spread_unrolled"] = spread(unrolled[:, :, -1])
        total = jnp.asarray(sum(weights[name] * losses[name] for name in losses))
        return View(unrolled, seen, seen, total, metrics)

    def loss_weights(self, stage: str) -> dict[str, float]:
        """Weights by the names of the model's losses; exploration reads no rewards.

        A decoder that only looks on learns at weight 1.
        """
        m, z = self.model_settings, self.muzero
        weights = {
            "reward": 0.0 if stage == "explore" else m.reward_scale,
            "continue": m.continue_scale,
            "spr": z.spr_scale,
            "contrastive": z.contrastive_scale,
            "reconstruction": z.reconstruction_scale or 1.0,
        }
        assert set(weights) == set(LOSSES)
        return weights


def build_muzero_agent(
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
    curious: bool,
) -> MuZeroAgent:
    """A fresh agent; `keys` has one random key per component."""
    world = build_muzero(spec.observation, spec.action.size, model, muzero, keys)
    explorer = None
    if curious:
        explorer = build_explorer(spec, agent, curiosity, muzero.latent, keys["explorer"])
    parts = {
        "encoder": world.encoder,
        "dynamics": world.dynamics,
        "decoder": world.decoder,
        "reward_head": world.reward_head,
        "actor": Actor(muzero.latent, spec.action, behaviour, key=keys["actor"]),
        "critic": ValueHead(muzero.latent, behaviour, key=keys["critic"]),
    }
    return MuZeroAgent(
        **parts,
        explorer=explorer,
        model_settings=model,
        behaviour=behaviour,
        slow=Running(parts),
        muzero=muzero,
        learning=learning,
        planning=planning,
    )
