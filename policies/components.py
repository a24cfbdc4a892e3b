"""What every agent is: named components, what it wants, and its loss over a batch.

Every learned or running array belongs to exactly one component, which is a field of the agent. The
training engine, checkpoints and stages know an agent by this module alone.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policies.actor import Actor
from policies.critic import ReturnRange
from policies.curiosity import (
    Disagreement,
    RandomNetworkDistillation,
    Steps,
    build_curiosity,
)
from policies.objectives import (
    CuriosityObjective,
    CuriousTaskObjective,
    Objective,
    TaskObjective,
)
from policies.settings import AgentSettings, BehaviourSettings, CuriositySettings
from tasks.contract import TaskSpec
from world_models.contract import Batch
from world_models.distributions import symlog
from world_models.observations import ObservationEncoder, is_image
from world_models.running import cast
from world_models.settings import ModelSettings

Explorer = Disagreement | RandomNetworkDistillation

COMPONENTS = ("encoder", "dynamics", "decoder", "reward_head", "actor", "critic", "explorer")


class LossAux(NamedTuple):
    """What one loss leaves behind: metrics, running statistics to be kept, and of each sequence the
    mean error of its roots' values, where values are learnt of roots."""

    metrics: dict[str, Float[Array, ""]]
    range: ReturnRange | None
    explorer: Explorer | None
    errors: Float[Array, " b"] | None = None


class Agent(eqx.Module):
    """One field per component; `explorer` is None where no curiosity is at work."""

    encoder: Any
    dynamics: Any
    decoder: Any
    reward_head: Any
    actor: Actor
    critic: Any  # a `policies.objectives.Value`
    explorer: Explorer | None
    model_settings: ModelSettings = eqx.field(static=True)
    behaviour: BehaviourSettings = eqx.field(static=True)

    @property
    @abstractmethod
    def model(self) -> Any:
        """The world-model components as one model (see `world_models.contract.WorldModel`)."""

    @property
    def foresees(self) -> bool:
        """Whether there is a learnt model, which can be asked what comes and compared with it."""
        return self.dynamics is not None

    @property
    @abstractmethod
    def unit(self) -> float:
        """What a reward of 1 counts in values."""

    @abstractmethod
    def loss(
        self,
        batch: Batch,
        key: PRNGKeyArray,
        *,
        stage: str,
        dtype: jnp.dtype,
        bonus_weight: float | Float[Array, ""],
    ) -> tuple[Float[Array, ""], LossAux]:
        """Sum of all weighted losses of a batch [B, T]. Consumes `key`.

        While exploring, the reward head learns nothing (rewards are never read) and the behaviour
        wants the bonus alone; without a curiosity there is no behaviour to learn. Later the bonus
        of a carried explorer counts `bonus_weight` beside the task's reward.
        """

    @abstractmethod
    def settle(self, aux: LossAux) -> "Agent":
        """The agent after an update, its running parts moved on."""

    def components(self) -> dict[str, Any]:
        """Component name to its module, those the agent has."""
        parts = {name: getattr(self, name) for name in COMPONENTS}
        return {name: part for name, part in parts.items() if part is not None}

    def replace(self, parts: Mapping[str, Any]) -> "Agent":
        """The agent with some components exchanged."""
        names = tuple(parts)
        return eqx.tree_at(
            lambda agent: tuple(getattr(agent, name) for name in names),
            self,
            tuple(parts[name] for name in names),
        )

    def with_statistics(self, explorer: Explorer) -> "Agent":
        """The agent whose explorer has the running statistics of another one."""
        return self.replace(
            {"explorer": eqx.tree_at(_statistics, self.explorer, _statistics(explorer))}
        )


def component_key(seed: int, stage: str, component: str) -> PRNGKeyArray:
    """Key of a fresh component: a function of (seed, stage, component) alone, so that a fresh part
    is the same in every arm and never equals the exploration's."""
    digest = hashlib.sha256(f"{seed}/{stage}/{component}".encode()).digest()
    return jax.random.key(int.from_bytes(digest[:4], "big"))


def task_objective(agent: Agent) -> TaskObjective:
    """What the agent wants with a task's rewards."""
    return TaskObjective(agent.model, agent.critic, agent.behaviour.discount, agent.unit)


def objective_of(agent: Agent, bonus_weight: float | Array | None) -> Objective:
    """What the agent is to want: without a weight, the bonus alone; without an explorer, or with a
    weight of plain 0.0, the task's reward alone."""
    if agent.explorer is None or (isinstance(bonus_weight, float) and bonus_weight == 0.0):
        return task_objective(agent)
    shared = (agent.model, agent.critic, agent.behaviour.discount, agent.unit, agent.explorer)
    if bonus_weight is None:
        return CuriosityObjective(*shared)
    return CuriousTaskObjective(*shared, jnp.asarray(bonus_weight))


def real_steps(net: ObservationEncoder, batch: Batch, features: Float[Array, "b t f"]) -> Steps:
    """The batch's steps t -> t + 1, flattened, for the explorer.

    What a step changes is the observed vector, or the features where there are images.
    """
    seen = features
    if not net.images:
        seen = jnp.concatenate([symlog(batch[name]) for name in net.vector_keys], -1)

    def flat(x: Array) -> Array:
        return x.reshape(-1, *x.shape[2:])

    return Steps(
        features=flat(features[:, :-1]),
        action=flat(batch["action"][:, :-1]),
        following=flat(features[:, 1:]),
        change=flat(seen[:, 1:] - seen[:, :-1]),
        valid=flat(~batch["is_first"][:, 1:]),
    )


def learn_curiosity(
    explorer: Explorer, steps: Steps, dtype: jnp.dtype
) -> tuple[Float[Array, ""], Explorer, dict[str, Float[Array, ""]]]:
    """The explorer's loss over real steps, the explorer with its statistics moved on, metrics."""
    loss = cast(explorer, dtype).loss(steps)
    after = jax.lax.stop_gradient(explorer).follow(steps)
    return loss, after, {"loss/explorer": loss, "bonus/size": after.size.value.centre()[0]}


def build_explorer(
    spec: TaskSpec,
    agent: AgentSettings,
    curiosity: CuriositySettings,
    features: int,
    key: PRNGKeyArray,
) -> Explorer | None:
    """A fresh explorer over `features` numbers per state, if there is a curiosity."""
    changes = _change_size(spec, features)
    sizes = {"features": features, "actions": spec.action.size, "changes": changes}
    return build_curiosity(agent, curiosity, **sizes, key=key)


def _change_size(spec: TaskSpec, features: int) -> int:
    """Length of `Steps.change` (see `real_steps`)."""
    if any(is_image(array) for array in spec.observation.values()):
        return features
    return sum(array.shape[0] for array in spec.observation.values())


def _statistics(explorer: Explorer) -> tuple[PyTree, PyTree]:
    return explorer.size, explorer.moments
