"""The jitted training step: compiled once, buffers donated, repeatable, no array left out."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policies.agent import COMPONENTS, Agent, agent_loss
from stages.settings import TrainingSettings
from stages.training_step import TrainingState, build_step, initial_state, place
from tests import tiny
from world_models.running import trainable

TRAINING = TrainingSettings(updates_per_call=2, warmup_updates=3)
KEY = jax.random.key(0)
CASES = [  # stage, curiosity, whether the agent has an explorer
    ("explore", "disagreement", True),
    ("explore", "rnd", True),
    ("explore", "none", False),
    ("transfer", "rnd", False),
    ("transfer", "rnd", True),
    ("transfer", "disagreement", True),
]


def fresh(stage: str, curiosity: str, curious: bool = False) -> TrainingState:
    agent = tiny.agent(stage=stage, curiosity=curiosity, curious=curious)
    return initial_state(agent, TRAINING)


def arrays(tree: Any) -> list[jax.Array]:
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def copy(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.array(x) if eqx.is_array(x) else x, tree)


@pytest.mark.parametrize(("stage", "curiosity", "curious"), CASES)
def test_every_array_belongs_to_exactly_one_component(
    stage: str, curiosity: str, curious: bool
) -> None:
    agent = fresh(stage, curiosity, curious).agent
    parts = agent.components()
    names = set(COMPONENTS) if curious else {*COMPONENTS[:-1]}
    assert set(parts) == names
    ours = [id(leaf) for part in parts.values() for leaf in arrays(part)]
    assert sorted(ours) == sorted(id(leaf) for leaf in arrays(agent))
    assert len(set(ours)) == len(ours)


@pytest.mark.parametrize(("stage", "curiosity", "curious"), CASES)
def test_a_step_compiles_once_and_consumes_its_input(
    stage: str, curiosity: str, curious: bool
) -> None:
    compiled = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    step = build_step(TRAINING, tiny.CURIOSITY, stage, 8)
    state = fresh(stage, curiosity, curious)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        following, metrics = step(state, tiny.batch(2, 3, 5), KEY)
        assert compiled  # else the event has another name and the test is blind
        assert all(leaf.is_deleted() for leaf in arrays(state))
        batches = [tiny.batch(2, 3, 5, seed=seed) for seed in (1, 2)]
        compiled.clear()
        for batch in batches:
            following, metrics = step(following, batch, KEY)
        assert not compiled
    finally:
        jax.monitoring.clear_event_listeners()
    assert int(following.updates) == 6
    assert all(np.isfinite(value) for value in metrics.values())


def test_equal_seeds_and_counters_give_equal_bits() -> None:
    step = build_step(TRAINING, tiny.CURIOSITY, "transfer", 8)
    batch = tiny.batch(2, 3, 5)
    one, _ = step(fresh("transfer", "none"), batch, KEY)
    other, _ = step(fresh("transfer", "none"), batch, KEY)
    for a, b in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)
    third, _ = step(fresh("transfer", "none"), batch, jax.random.key(1))
    assert any(not np.array_equal(a, b) for a, b in zip(arrays(one), arrays(third), strict=True))


def test_a_later_update_draws_other_numbers() -> None:
    step = build_step(TRAINING, tiny.CURIOSITY, "transfer", 8)
    state = fresh("transfer", "none")
    later = eqx.tree_at(lambda s: s.updates, fresh("transfer", "none"), jnp.array(40))
    _, metrics = step(state, tiny.batch(2, 3, 5), KEY)
    _, other = step(later, tiny.batch(2, 3, 5), KEY)
    assert metrics["loss/dynamics"] != other["loss/dynamics"]


@pytest.mark.parametrize(("stage", "curiosity", "curious"), CASES)
def test_which_arrays_move(stage: str, curiosity: str, curious: bool) -> None:
    """All trained arrays move, but for the parts that a stage does not train."""
    state = fresh(stage, curiosity, curious)
    before = copy(state.agent)
    after, _ = build_step(TRAINING, tiny.CURIOSITY, stage, 8)(state, tiny.batch(2, 3, 5), KEY)
    still = set()
    for name, part in before.components().items():
        new = getattr(after.agent, name)
        pairs = zip(jax.tree.leaves(part), jax.tree.leaves(new), strict=True)
        if all(np.array_equal(a, b) for a, b in pairs):
            still.add(name)
    if stage == "transfer":
        assert still == set()
    else:  # a random explorer learns no behaviour
        assert still == ({"actor", "critic"} if curiosity == "none" else set())
    if stage == "explore":  # rewards are never read; only the continuation is learnt
        reward = jax.tree.leaves(before.reward_head.reward)
        for a, b in zip(reward, jax.tree.leaves(after.agent.reward_head.reward), strict=True):
            np.testing.assert_array_equal(a, b)
    if curiosity == "rnd" and curious:
        old, new = before.explorer.target, after.agent.explorer.target
        for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_world_model_learns_nothing_from_behaviour() -> None:
    """With all its own losses weighed at nothing, the world model has no gradient at all."""
    names = ("reconstruction", "reward", "continue", "dynamics", "representation")
    model = tiny.MODEL.model_copy(update={f"{name}_scale": 0.0 for name in names})
    for stage, curious in (("explore", True), ("transfer", False), ("transfer", True)):
        agent = tiny.agent(stage=stage, model=model, curious=curious)
        # a zero critic would hide gradients
        agent = jax.tree.map(lambda x: x + 0.01 if eqx.is_inexact_array(x) else x, agent)
        params, rest = eqx.partition(agent, trainable(agent))

        def loss(params: Agent, rest: Agent = rest, stage: str = stage) -> jax.Array:
            whole = eqx.combine(params, rest)
            batch = tiny.batch(3, 5)
            return agent_loss(whole, batch, KEY, stage=stage, dtype=jnp.dtype("float32"))[0]

        gradients = eqx.filter_jit(eqx.filter_grad(loss))(params)
        for name, part in gradients.components().items():
            size = sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(part))
            if name in ("actor", "critic", "explorer"):
                assert size > 0, name
            else:
                assert size == 0, name


def test_a_carried_curiosity_fades() -> None:
    curiosity = tiny.CURIOSITY.model_copy(update={"transfer_scale": 0.5, "transfer_share": 0.6})
    step = build_step(TRAINING, curiosity, "transfer", 10)  # so it fades over 6 updates

    def imagined(updates: int) -> float:
        """What a step is paid; a fresh reward head predicts nothing."""
        state = fresh("transfer", "disagreement", True)
        state = eqx.tree_at(lambda s: s.updates, state, jnp.array(updates))
        bonus_only = tiny.batch(1, 3, 5)  # one update, measured before it
        return float(step(state, bonus_only, KEY)[1]["reward/imagined"])

    start = imagined(0)
    assert start > 1e-3
    assert 0.2 * start < imagined(3) < 0.8 * start  # other states are imagined from
    assert abs(imagined(6)) < 1e-6
    assert abs(imagined(60)) < 1e-6


@pytest.mark.parametrize("kind", ["state", "image"])
def test_discrete_actions_images_and_bfloat16(kind: str) -> None:
    observation = tiny.STATE if kind == "state" else tiny.IMAGE
    training = TRAINING.model_copy(update={"precision": "bfloat16"})
    agent = tiny.agent(observation=observation, action=tiny.DISCRETE)
    batch = tiny.batch(2, 3, 5, observation=observation, action=tiny.DISCRETE)
    state, metrics = build_step(training, tiny.CURIOSITY, "transfer", 8)(
        initial_state(agent, training), batch, KEY
    )
    assert np.isfinite(metrics["loss/total"])
    kept = {leaf.dtype for leaf in arrays(state.agent)}
    assert kept == {jnp.dtype("float32")}  # only computing is in bfloat16


def test_batches_are_placed_whole() -> None:
    batch = {"x": np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)}
    np.testing.assert_array_equal(place(batch)["x"], batch["x"])
