"""Learning what a planner finds (`planning.learn`): the policy comes to do at once what it plans.

From states the planner plans afresh, without the memory of a plan before. What it tried first is
made likelier, by how much it makes of each (`Plan.tried`):

    loss(s) = - sum_k w_k log pi(a_k | s)

which is least where the policy is the planner's own distribution: for normals its mean and spread,
so that the policy's mode becomes the planned action. Policies cloned from plans: POPLIN, arXiv
1906.08649. With `mppi` the weights are exp(return), those of advantage-weighted regression
(1910.00177) over imagined sequences. Learnt beside a gradient that the policy has already, it also
keeps the policy near the planner that collects, where values are learnt (TD-M(PC)2, 2502.03550).
"""

import jax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from policies.actor import ActionDistribution, Actor
from policies.imagination import still
from policies.objectives import Objective
from policies.plan import Planner, Tried
from policies.planners import build_planner
from policies.settings import PlanningSettings
from world_models.contract import State, WorldModel


def try_out(
    planner: Planner,
    model: WorldModel,
    actor: Actor,
    objective: Objective,
    states: State,
    key: PRNGKeyArray,
    mask: Bool[Array, "n a"] | None = None,
) -> Tried:
    """What a planner tries from `states` [N, ...]: actions [N, K, A], weights [N, K]. Consumes
    `key`; `mask` are the choices allowed there."""

    def one(state: State, key: PRNGKeyArray, allowed: Array | None) -> Tried:
        memory = planner.initial(actor)
        plan = planner(model, actor, objective, state, memory, key, greedy=False, mask=allowed)
        assert plan.tried is not None, "a policy's own action is no plan"
        return plan.tried

    number = jax.tree.leaves(states)[0].shape[0]
    return jax.vmap(one)(states, jax.random.split(key, number), mask)


def cross_entropy(policy: ActionDistribution, tried: Tried) -> Float[Array, " n"]:
    """The loss of each state, from its `policy` and what was tried there."""
    likely = jax.vmap(lambda action: policy.log_prob(action), -2, -1)(tried.actions)
    return -(tried.weights * likely).sum(-1)


def distillation_loss(
    actor: Actor,
    model: WorldModel,
    objective: Objective,
    starts: State,
    start_weight: Float[Array, " n"],
    settings: PlanningSettings,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """The mean loss over a share of the states [N, ...] that imagination starts from, each counting
    its weight. Gradients reach the actor alone. Consumes `key`."""
    number = max(1, round(settings.learn_share * start_weight.shape[0]))
    states, weight = jax.tree.map(lambda x: x[:number], (still(starts), still(start_weight)))
    planner = build_planner(settings.learn, settings)
    asked = (still(model), still(actor), still(objective), states, key)
    tried = still(try_out(planner, *asked))
    policy = jax.vmap(actor)(still(jax.vmap(model.features)(states)))
    return (weight * cross_entropy(policy, tried)).mean()
