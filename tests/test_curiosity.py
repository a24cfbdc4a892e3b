"""Bonuses: what they reward, how they are trained, in which unit they are paid."""

from pathlib import Path
from types import ModuleType

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policies.agent import Agent
from policies.curiosity import Curiosity, Disagreement, RandomNetworkDistillation, Steps
from stages import explore, transfer
from stages.settings import Study
from tasks.contract import TaskSpec
from tests import tiny
from world_models.running import Moments

KEY = jax.random.key(0)
FEATURES, ACTIONS, CHANGES, NUMBER = 6, 2, 3, 64


def steps(seed: int = 0, scale: float = 1.0) -> Steps:
    rng = np.random.default_rng(seed)

    def normal(size: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=(NUMBER, size)), jnp.float32)

    units = jnp.array([1.0, 100.0, 0.01])
    return Steps(
        features=normal(FEATURES),
        action=normal(ACTIONS),
        following=scale * normal(FEATURES),
        change=units * (5.0 + normal(CHANGES)),
        valid=jnp.ones(NUMBER, bool),
    )


def disagreement() -> Disagreement:
    return Disagreement(FEATURES, ACTIONS, CHANGES, tiny.CURIOSITY, key=KEY)


def distillation() -> RandomNetworkDistillation:
    return RandomNetworkDistillation(FEATURES, tiny.CURIOSITY, key=KEY)


def bonuses(curiosity: Curiosity, of: Steps) -> jax.Array:
    return jax.vmap(curiosity.bonus)(of.features, of.action, of.following)


def test_equal_members_agree() -> None:
    curiosity = disagreement()
    assert (bonuses(curiosity, steps()) > 0).all()
    equal = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), curiosity.ensemble)
    same = eqx.tree_at(lambda c: c.ensemble, curiosity, equal)
    np.testing.assert_allclose(bonuses(same, steps()), 0.0, atol=1e-12)


def test_disagreement_by_hand() -> None:
    curiosity = disagreement()
    one = steps()
    heads = curiosity.ensemble(jnp.concatenate([one.features[0], one.action[0]]))
    assert heads.shape == (3, CHANGES)
    expected = np.var(np.asarray(heads), axis=0).mean()
    raw = curiosity.variance(one.features[0], one.action[0])
    assert float(raw) == pytest.approx(expected, rel=1e-4)


def test_no_unit_of_a_sensor_decides() -> None:
    """Targets are whitened per dimension, so a change of units leaves the loss as it was."""
    one = steps()
    curiosity = disagreement().follow(one)
    scaled = one._replace(change=one.change * jnp.array([10.0, 0.1, 100.0]))
    other = disagreement().follow(scaled)
    assert float(curiosity.loss(one)) == pytest.approx(float(other.loss(scaled)), rel=1e-2)
    moments = curiosity.moments.value
    np.testing.assert_allclose(moments.centre(), one.change.mean(0), rtol=1e-4)
    np.testing.assert_allclose(moments.deviation(), one.change.std(0), rtol=0.02)


@pytest.mark.parametrize("build", [disagreement, distillation])
def test_a_bonus_has_mean_one(build: type) -> None:
    one = steps()
    curiosity = build()
    if isinstance(curiosity, RandomNetworkDistillation):
        curiosity = curiosity.follow(one)  # so that inputs are whitened alike below
        curiosity = eqx.tree_at(lambda c: c.size.value, curiosity, Moments(1))
    curiosity = curiosity.follow(one)
    found = bonuses(curiosity, one)
    assert float(found.mean()) == pytest.approx(1.0, rel=0.01)
    assert float(found.std()) > 0.01


@pytest.mark.parametrize("build", [disagreement, distillation])
def test_steps_across_episodes_do_not_count(build: type) -> None:
    curiosity = build()
    valid = jnp.arange(NUMBER) < NUMBER // 2
    one = steps()._replace(valid=valid)
    wild = steps(seed=1)
    mixed = Steps(
        *(
            jnp.where(valid[:, None], a, 1e3 * b) if a.ndim == 2 else a
            for a, b in zip(one, wild, strict=True)
        )
    )
    assert float(curiosity.loss(one)) == pytest.approx(float(curiosity.loss(mixed)), rel=1e-5)
    pairs = zip(
        jax.tree.leaves(curiosity.follow(one)),
        jax.tree.leaves(curiosity.follow(mixed)),
        strict=True,
    )
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_distillation_learns_what_it_sees_and_keeps_its_target() -> None:
    curiosity = distillation().follow(steps())
    seen, novel = steps(), steps(seed=1, scale=3.0)
    predictor, rest = curiosity.predictor, curiosity

    @eqx.filter_jit
    def update(predictor: object) -> tuple[object, jax.Array]:
        def loss(predictor: object) -> jax.Array:
            return eqx.tree_at(lambda c: c.predictor, rest, predictor).loss(seen)

        value, slope = eqx.filter_value_and_grad(loss)(predictor)
        return jax.tree.map(lambda p, g: p - 0.05 * g, predictor, slope), value

    _, before = update(predictor)
    for _ in range(200):
        predictor, after = update(predictor)
    assert after < 0.3 * before
    trained = eqx.tree_at(lambda c: c.predictor, curiosity, predictor)
    assert bonuses(trained, seen).mean() < bonuses(trained, novel).mean()
    gradient = eqx.filter_grad(lambda c: c.loss(seen))(curiosity)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient.target))


def test_moments_by_hand() -> None:
    moments = Moments(1)
    assert float(moments.deviation()[0]) == 1.0
    valid = jnp.array([True, True, False])
    moments = moments.update(jnp.array([[1.0], [3.0], [99.0]]), valid, rate=0.5)
    assert float(moments.centre()[0]) == pytest.approx(2.0)
    assert float(moments.deviation()[0]) == pytest.approx(1.0)
    moments = moments.update(jnp.array([[5.0], [5.0], [0.0]]), valid, rate=0.5)
    # weights 1/4 and 1/2, corrected to 1/3 and 2/3
    assert float(moments.centre()[0]) == pytest.approx(4.0)
    assert float(moments.deviation()[0]) == pytest.approx(np.sqrt(5 / 3 + 50 / 3 - 16), rel=1e-4)


@pytest.mark.parametrize("stage", [explore, transfer])
def test_exploring_has_its_own_weight_of_entropy(
    stage: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trained(Exception):
        pass

    def look(study: Study, spec: TaskSpec, agent: Agent, *_: object) -> None:
        raise Trained(agent.behaviour.entropy)

    monkeypatch.setattr(stage, "TrainingLoop", look)
    study = tiny.study(curiosity={"entropy": 0.5}, behaviour={"entropy": 0.25})
    exploring = stage is explore
    task = study.tasks.transfer[0]
    inputs = explore.Inputs(0) if exploring else transfer.Inputs(task, "scratch", 0)
    with pytest.raises(Trained, match=r"0\.5" if exploring else r"0\.25"):
        stage.run(study, inputs, tmp_path)
