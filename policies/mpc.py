"""Model-predictive control by sampling: draw action sequences, imagine them, keep to the best.

    proposal <- wide, about the last plan moved on a step
    repeat   samples from the proposal and from the policy, imagined over the horizon
             proposal <- fitted to the elites, weighed as CEM or MPPI does
    act      the first action of the proposal; the rest begins the next plan

A trajectory is worth its lambda-return over the horizon, at whose end stands the critic's value
(TD-MPC2, arXiv 2310.16828; Dyna-MPC, arXiv 2209.12016). What the plan is expected to bring is the
weighed return of the last elites: those that were chosen, for their luck in imagination too.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from policies.actor import Actor
from policies.imagination import imagine
from policies.objectives import Objective
from policies.plan import Plan, PlannerMemory, Tried
from policies.proposals import blank, resume
from policies.returns import lambda_returns
from policies.settings import PlanningSettings
from world_models.contract import Noise, State, WorldModel


class Candidates(NamedTuple):
    """Action sequences and what the model says of them."""

    actions: Float[Array, "n h a"]
    returns: Float[Array, " n"]


class Looked(NamedTuple):
    """A plan with what it was made from: the sequences of the last round, the policy's first, and
    the one that was chosen."""

    plan: Plan
    candidates: Candidates
    chosen: Float[Array, "h a"]


class MPC(eqx.Module):
    """A sampling planner; what kind it is, its weights say."""

    settings: PlanningSettings = eqx.field(static=True)

    @abstractmethod
    def weigh(self, returns: Float[Array, " k"]) -> Float[Array, " k"]:
        """How much each of the elites counts for the next proposal; it adds up to 1."""

    def initial(self, actor: Actor) -> PlannerMemory:
        """Nothing planned yet; without a warm start nothing is remembered."""
        return blank(actor.action, self.settings.horizon) if self.settings.warm_start else ()

    def __call__(
        self,
        model: WorldModel,
        actor: Actor,
        objective: Objective,
        state: State,
        memory: PlannerMemory,
        key: PRNGKeyArray,
        *,
        greedy: bool,
        mask: Bool[Array, " a"] | None = None,
    ) -> Plan:
        given = (model, actor, objective, state, memory, key)
        return self.look(*given, greedy=greedy, mask=mask).plan

    def look(
        self,
        model: WorldModel,
        actor: Actor,
        objective: Objective,
        state: State,
        memory: PlannerMemory,
        key: PRNGKeyArray,
        *,
        greedy: bool,
        mask: Bool[Array, " a"] | None = None,
    ) -> Looked:
        """The plan that a call makes with the same arguments, and what it was made from."""
        s = self.settings
        policy_key, model_key, draw_key, act_key = jax.random.split(key, 4)
        by_policy = round(s.policy_share * s.samples)
        known = propose(model, actor, objective, state, by_policy, s, policy_key, mask)
        proposal = resume(actor.action, s, memory if s.warm_start else None, mask)
        drawn = s.samples - by_policy
        # One draw of the world's chances serves all iterations: what differs are the actions.
        chances = model.noise(model_key, (s.horizon, drawn))
        noise = proposal.noise(draw_key, (s.iterations, drawn))

        def improve(proposal: PlannerMemory, noise: Array) -> tuple[PlannerMemory, Candidates]:
            actions = proposal.sample(noise)
            returns = evaluate(model, objective, state, actions, chances, s.lambda_)
            # The policy's come first, and win where all are worth the same: nothing is known then.
            actions = jnp.concatenate([known.actions, actions])
            returns = jnp.concatenate([known.returns, returns])
            best, index = jax.lax.top_k(returns, s.elites)
            refitted = proposal.refit(actions[index], self.weigh(best), s.momentum)
            return refitted, Candidates(actions, returns)

        proposal, rounds = jax.lax.scan(improve, proposal, noise)
        last = jax.tree.map(lambda x: x[-1], rounds)
        best, index = jax.lax.top_k(last.returns, s.elites)
        tried = Tried(last.actions[index, 0], self.weigh(best))
        chosen = proposal.mode() if greedy else proposal.sample(proposal.noise(act_key, ()))
        memory = proposal.centre() if s.warm_start else ()
        return Looked(Plan(chosen[0], memory, tried.weights @ best, tried), last, chosen)


def propose(
    model: WorldModel,
    actor: Actor,
    objective: Objective,
    state: State,
    number: int,
    settings: PlanningSettings,
    key: PRNGKeyArray,
    mask: Bool[Array, " a"] | None = None,
) -> Candidates:
    """What the policy itself would do, `number` times; `mask` holds at first. Consumes `key`."""
    if number == 0:
        none = jnp.zeros((0, settings.horizon, actor.action.size))
        return Candidates(none, jnp.zeros(0))
    starts = _repeated(state, number)
    dream = imagine(model, actor, starts, settings.horizon, key, mask)
    after = dream.after
    rewards = jax.vmap(jax.vmap(objective.reward))(dream.before, dream.actions, after)
    discounts = jax.vmap(jax.vmap(objective.discount))(after)
    values = jax.vmap(jax.vmap(objective.value))(after)
    returns = lambda_returns(rewards, discounts, values, settings.lambda_)[0]
    return Candidates(dream.actions.swapaxes(0, 1), returns)


def evaluate(
    model: WorldModel,
    objective: Objective,
    state: State,
    actions: Float[Array, "n h a"],
    chances: Noise,
    mix: float,
) -> Float[Array, " n"]:
    """Lambda-returns [N] of action sequences, each imagined from `state` with its own `chances`
    [H, N, ...]; `mix` is lambda, and at 1 only the last value is asked for."""
    number = actions.shape[0]
    read, value = jax.vmap(model.features), jax.vmap(objective.value)

    def step(now: tuple[State, Array], row: tuple[Array, Noise]) -> tuple[tuple, tuple]:
        state, before = now
        action, chance = row
        state = jax.vmap(model.imagine)(state, action, chance)
        after = read(state)
        reward = jax.vmap(objective.reward)(before, action, after)
        discount = jax.vmap(objective.discount)(after)
        return (state, after), (reward, discount, value(after) if mix < 1 else jnp.zeros(number))

    starts = _repeated(state, number)
    start = (starts, read(starts))
    (_, last), rows = jax.lax.scan(step, start, (actions.swapaxes(0, 1), chances))
    rewards, discounts, values = rows
    if mix == 1:
        values = values.at[-1].set(value(last))
    return lambda_returns(rewards, discounts, values, mix)[0]


def _repeated(state: State, number: int) -> State:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (number, *x.shape)), state)
