"""The MuZero-style agent: targets by hand, what its losses train, its step, act and checkpoint."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policies.agent import agent_loss
from policies.components import COMPONENTS
from policies.muzero import MuZeroAgent
from policies.returns import n_step_returns
from policies.search_agent import MOST, Targets, taken
from policies.settings import PlanningSettings
from policies.slow import followed
from stages import checkpoints
from stages.acting import AgentActor
from stages.settings import TrainingSettings
from stages.training_step import build_step, initial_state
from tests import tiny

KEY = jax.random.key(0)
TRAINING = TrainingSettings(updates_per_call=2)
SHAPE = (3, 6)  # so that two steps are roots, and one of an unroll's was searched
WEIGHED = tiny.batch(*SHAPE) | {"weight": jnp.ones(3)}


def fresh(*, world_model: str = "muzero", **changes: Any) -> Any:
    return tiny.agent(world_model=world_model, **changes)


@eqx.filter_jit
def learnt(agent: Any, batch: dict) -> Any:
    """Metrics of one loss, and the errors of the sequences."""
    dtype = jnp.dtype("float32")
    aux = agent_loss(agent, batch, KEY, stage="transfer", dtype=dtype)[1]
    return aux.metrics, aux.errors


def arrays(tree: Any) -> list[jax.Array]:
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def test_n_step_returns_by_hand() -> None:
    """Discount 1/2, three steps; an episode is cut off after row 3, the next ends at row 7."""
    rewards = jnp.array([[0.0, 1, 2, 4, 0, 8, 16, 32, 0, 0]])
    values = 100.0 + jnp.arange(10.0)[None]
    first = jnp.zeros((1, 10), bool).at[0, jnp.array([0, 4, 8])].set(True)
    terminal = jnp.zeros((1, 10), bool).at[0, 7].set(True)
    found = n_step_returns(rewards, values, first, terminal, 0.5, 3)
    expected = [
        1 + 2 / 2 + 4 / 4 + 103 / 8,
        2 + 4 / 2 + 103 / 4,  # cut off: the last state's value stands in
        4 + 103 / 2,
        103.0,
        8 + 16 / 2 + 32 / 4,  # ended: nothing more comes
        16 + 32 / 2,
        32.0,
    ]
    np.testing.assert_allclose(found[0], expected)


def test_slow_copies_follow() -> None:
    old, new = {"a": jnp.zeros(2), "b": "still"}, {"a": jnp.ones(2), "b": "still"}
    for _ in range(2):
        old = followed(old, new, 0.25)
    np.testing.assert_allclose(old["a"], 1 - 0.75**2)


def test_losses_of_the_heads_by_hand() -> None:
    """A uniform policy over three choices loses what a uniform guess loses, and so does a flat
    value; one that begins at zero loses hardly anything where zero is right."""
    agent = fresh(action=tiny.DISCRETE)
    agent = eqx.tree_at(lambda a: a.actor.net.output.weight, agent, replace_fn=jnp.zeros_like)
    flat = eqx.tree_at(lambda a: a.critic.net.output.bias, agent, replace_fn=jnp.zeros_like)
    batch = tiny.batch(*SHAPE, action=tiny.DISCRETE)
    unrolled = jax.random.normal(KEY, (3, 2, 3, 12))
    choices = jnp.broadcast_to(jnp.eye(3), (3, 2, 3, 3))
    weights = jnp.broadcast_to(jnp.array([0.2, 0.5, 0.3]), (3, 2, 3))
    targets = Targets(jnp.full((3, 4), 1.5), choices, weights)

    @eqx.filter_jit
    def losses(agent: MuZeroAgent, batch: dict, targets: Targets) -> Any:
        return agent.head_losses(batch, unrolled, targets, False)

    found, metrics, _ = losses(flat, batch, targets)
    assert float(found["policy"]) == pytest.approx(np.log(3), rel=1e-4)
    assert float(found["value"]) == pytest.approx(np.log(15), rel=1e-4)
    assert float(metrics["actor/entropy"]) == pytest.approx(np.log(3), rel=1e-4)
    assert float(metrics["target/weight"]) == pytest.approx(0.5)
    unknown = batch | {"reward_known": jnp.zeros(SHAPE)}
    assert losses(flat, unknown, targets)[0]["value"] == 0
    total = np.exp(5) + 14
    nothing = targets._replace(value=jnp.zeros((3, 4)))
    at_zero = float(losses(agent, batch, nothing)[0]["value"])
    assert at_zero == pytest.approx(np.log(total) - 5, rel=1e-4)


def test_targets_stop_at_what_is_known() -> None:
    """Bootstrap values are the search's where a step was searched, the slow head's elsewhere."""
    agent = fresh()
    batch = tiny.batch(*SHAPE)
    batch["reward"] = jnp.zeros(SHAPE)

    @eqx.filter_jit
    def targets(agent: MuZeroAgent) -> Targets:
        seen = agent.model.encode(batch)
        return agent.targets(batch, seen, seen, 2, 0.0, KEY)

    fresh_head = targets(agent)
    np.testing.assert_allclose(fresh_head.value, 0.0, atol=1e-4)  # all heads begin at zero
    assert fresh_head.actions.shape == (3, 2, 4, 2)
    np.testing.assert_allclose(fresh_head.weights.sum(-1), 1.0, rtol=1e-5)
    hopeful = eqx.tree_at(lambda a: a.critic.net.output.bias, agent, jnp.eye(15)[9] * 100.0)
    worth = float(hopeful.critic(jnp.zeros(12)).mean())
    np.testing.assert_allclose(targets(hopeful).value[:, 1:], 0.97**2 * worth, rtol=1e-4)


def test_a_share_is_searched() -> None:
    learning = tiny.LEARNING.model_copy(update={"reanalyse": 0.34})
    agent, batch = fresh(learning=learning), tiny.batch(*SHAPE)

    def targets(agent: MuZeroAgent) -> Targets:
        seen = agent.model.encode(batch)
        return agent.targets(batch, seen, seen, 2, 0.0, KEY)

    found = eqx.filter_eval_shape(targets, agent)
    assert found.weights.shape[0] == 1
    assert found.value.shape == (3, 4)


def test_actions_that_turned_out_better_weigh_more_by_hand() -> None:
    """Without search: exp(advantage / spread), of actions that led somewhere, 1 on average."""
    batch = tiny.batch(2, 4)
    batch["is_first"] = jnp.array([[False] * 4, [False, True, False, False]])  # nothing came of one
    values = jnp.array([[1.0, 0, 0, 0], [5.0, 1, 0, 0]])
    returns = jnp.array([[3.0, 4.0], [0.0, 1.0]])
    better = np.array([2.0, 4.0, 0.0])
    expected = np.exp(better / better.std())
    expected /= expected.mean()
    actions, weights = taken(batch, returns, values, 2)
    np.testing.assert_array_equal(actions[:, :, 0], batch["action"][:, :2])
    np.testing.assert_allclose(weights[..., 0].ravel(), [*expected[:2], 0, expected[2]], rtol=1e-4)
    unknown = jnp.array([[0.0] * 4, [1.0] * 4])
    _, weights = taken(batch, returns, values, 2, unknown)
    np.testing.assert_allclose(weights[..., 0], [[0, 0], [0, 1]], atol=1e-5)
    _, flat = taken(batch, values[:, :2], values, 2)  # no better than expected: all the same
    np.testing.assert_allclose(flat[..., 0], [[1, 1], [0, 1]], atol=1e-5)
    lucky = jnp.zeros((1, 100)).at[0, 0].set(50.0)
    _, cut = taken(tiny.batch(1, 101), lucky, jnp.zeros((1, 101)), 100)
    assert float(jnp.log(cut[0, 0, 0] / cut[0, 1, 0])) == pytest.approx(MOST, rel=1e-3)


@pytest.mark.parametrize("family", ["muzero", "none"])
def test_a_collapse_is_seen(family: Any) -> None:
    """`latent/spread` is near 0 where an encoder does not tell one observation from another."""
    agent = fresh(world_model=family)

    def collapsed(output: Any) -> Any:
        bias = jax.random.normal(KEY, output.bias.shape)
        return eqx.tree_at(lambda o: (o.weight, o.bias), output, (1e-3 * output.weight, bias))

    blind = eqx.tree_at(lambda a: a.encoder.output, agent, replace_fn=collapsed)
    assert learnt(agent, WEIGHED)[0]["latent/spread"] > 0.5
    assert learnt(blind, WEIGHED)[0]["latent/spread"] < 0.01


@pytest.mark.parametrize(("family", "roots"), [("muzero", 2), ("none", 4)])
def test_losses_count_as_their_sequences_weigh_and_errors_are_those_of_roots(
    family: Any, roots: int
) -> None:
    """A fresh agent expects nothing of any state, so its error is what came: two rewards."""
    agent, other = fresh(world_model=family), jnp.array([0.0, 5.0, 1.0])
    metrics, errors = learnt(agent, WEIGHED)
    twice, _ = learnt(agent, WEIGHED | {"weight": 2 * jnp.ones(3)})
    some, _ = learnt(agent, WEIGHED | {"weight": other})
    losses = [name for name in metrics if name.startswith("loss/")]
    assert {"loss/value", "loss/policy", "loss/total"} <= set(losses)
    for name in losses:
        assert float(twice[name]) == pytest.approx(2 * float(metrics[name]), rel=1e-4), name
        assert float(some[name]) != pytest.approx(2 * float(metrics[name]), rel=1e-4), name
    reward = WEIGHED["reward"]
    came = reward[:, 1 : roots + 1] + 0.97 * reward[:, 2 : roots + 2]
    np.testing.assert_allclose(errors, jnp.abs(came).mean(-1), atol=1e-3)


CASES = [  # stage, curiosity, curious, learn
    ("explore", "disagreement", True, "none"),
    ("transfer", "rnd", False, "mcts"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "curiosity", "curious", "learn"), CASES)
def test_a_step(stage: str, curiosity: str, curious: bool, learn: str) -> None:
    """All components move, and with them their slow copies."""
    agent = fresh(stage=stage, curiosity=curiosity, curious=curious, learn=learn)
    parts = agent.components()
    assert set(parts) == set(COMPONENTS if curious else COMPONENTS[:-1])
    ours = [id(leaf) for part in parts.values() for leaf in arrays(part)]
    assert sorted(ours) == sorted(id(leaf) for leaf in arrays(agent))
    before = jax.tree.map(lambda x: np.array(x) if eqx.is_array(x) else x, agent)
    step = build_step(TRAINING, tiny.CURIOSITY, stage, 8)
    state, metrics = step(initial_state(agent, TRAINING), tiny.batch(2, *SHAPE), KEY)
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["latent/spread"] > 0.1
    still = set()
    for name, part in before.components().items():
        new = state.agent.components()[name]
        pairs = list(zip(jax.tree.leaves(part), jax.tree.leaves(new), strict=True))
        if all(np.array_equal(a, b) for a, b in pairs):
            still.add(name)
        elif name != "explorer":
            assert any(not np.array_equal(a, b) for a, b in pairs[len(pairs) // 2 :])
    assert still == set()
    if stage == "explore":  # rewards are never read
        old, new = before.reward_head.reward, state.agent.reward_head.reward
        for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
            np.testing.assert_array_equal(a, b)


def test_exploring_is_paid_by_the_bonus_alone() -> None:
    agent, batch = fresh(stage="explore"), tiny.batch(*SHAPE)
    seen = jax.random.normal(KEY, (*SHAPE, 12))
    paid = agent.paid(batch, seen, None)
    np.testing.assert_array_equal(paid, agent.paid(batch | {"reward": jnp.ones(SHAPE)}, seen, None))
    one = agent.explorer.bonus(seen[1, 2], batch["action"][1, 2], seen[1, 3])
    assert float(paid[1, 3]) == pytest.approx(float(one), rel=1e-4)
    both = agent.paid(batch, seen, 0.5)
    np.testing.assert_allclose(both, batch["reward"] + 0.5 * paid, rtol=1e-5)


def test_it_acts_by_search_and_another_temperature_compiles_nothing() -> None:
    compiled = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    agent, settings = fresh(), PlanningSettings(search=tiny.SEARCH)
    spec = tiny.task_spec()
    actor = AgentActor(spec, agent, 2, KEY, planner="mcts", greedy=False, settings=settings)
    rows = {"state": np.array(tiny.batch(2, 1)["state"][:, 0]), "is_first": np.ones(2, bool)}
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        action = actor(agent, rows, 0, temperature=np.float32(1.0))
        assert compiled  # else the event has another name and the test is blind
        compiled.clear()
        for count, heat in enumerate((0.5, 0.0), 1):
            actor(agent, rows, count, temperature=np.float32(heat))
        assert not compiled
    finally:
        jax.monitoring.clear_event_listeners()
    assert action.shape == (2, 2)
    assert (np.abs(action) <= 1).all()
    assert actor.memory.state.shape == (2, 12)


def test_a_checkpoint_keeps_slow_copies_with_their_component(tmp_path: Path) -> None:
    agent, other = fresh(), fresh(seed=1)
    agent = eqx.tree_at(
        lambda a: a.slow.value["actor"].net.output.bias, agent, replace_fn=lambda x: x + 3.0
    )
    checkpoints.save(tmp_path, "updates-1", agent.components())
    taken = checkpoints.restore_agent(tmp_path, other, ("actor",))
    np.testing.assert_array_equal(taken.actor.net.output.weight, agent.actor.net.output.weight)
    np.testing.assert_array_equal(taken.slow.value["actor"].net.output.bias, np.full(4, 3.0))
    for name in ("encoder", "critic"):
        for kept, own in zip(
            arrays(taken.components()[name]), arrays(other.components()[name]), strict=True
        ):
            np.testing.assert_array_equal(kept, own)


@pytest.mark.parametrize(("stage", "history"), [("explore", 1), ("transfer", 1), ("explore", 2)])
def test_images_choices_and_bfloat16(stage: str, history: int) -> None:
    """The loss is made of the same parts for images; here its program is traced, not run."""
    muzero = tiny.MUZERO.model_copy(update={"history": history})
    agent = fresh(stage=stage, observation=tiny.IMAGE, action=tiny.DISCRETE, muzero=muzero)
    batch = tiny.batch(*SHAPE, observation=tiny.IMAGE, action=tiny.DISCRETE)

    def loss(agent: MuZeroAgent) -> Any:
        total, aux = agent_loss(agent, batch, KEY, stage=stage, dtype=jnp.dtype("bfloat16"))
        return total, aux.metrics

    total, metrics = eqx.filter_eval_shape(loss, agent)
    assert total.shape == ()
    assert {"loss/policy", "loss/value", "loss/spr", "latent/spread"} <= set(metrics)


def test_exploring_at_random_learns_the_model_alone() -> None:
    agent = fresh(stage="explore", curiosity="none")
    batch, dtype = tiny.batch(*SHAPE), jnp.dtype("float32")

    def loss(agent: MuZeroAgent) -> Any:
        return agent_loss(agent, batch, KEY, stage="explore", dtype=dtype)[1].metrics

    metrics = eqx.filter_eval_shape(loss, agent)
    assert "loss/spr" in metrics
    assert "loss/policy" not in metrics
    assert agent.loss_weights("explore")["reward"] == 0
