"""The maze as a world model: it foretells what comes, a search in it finds what pays, and whatever
cannot be planned in is refused."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.errors import StudyError
from pipeline.settings import load_study
from policies.agent import act, agent_loss, build_agent, fresh_memory, objective_of
from policies.planners import build_planner
from policies.search import search
from policies.settings import AgentSettings, PlanningSettings
from policies.simulated import in_the_simulator
from tasks import registry
from tasks.contract import TaskError
from tasks.settings import TaskOptions
from tests import tiny

KEY = jax.random.key(0)
LARGE = tiny.SEARCH.model_copy(update={"simulations": 16, "considered": 4})


def fresh(
    task: str = "maze/collect",
    *,
    stage: str = "transfer",
    learn: Any = "mcts",
    model: Any = "simulator",
) -> Any:
    return build_agent(
        registry.spec(task, TaskOptions()),
        AgentSettings(world_model=model),
        tiny.MODEL,
        tiny.BEHAVIOUR,
        tiny.CURIOSITY,
        tiny.MUZERO,
        tiny.LEARNING,
        PlanningSettings(learn=learn, search=tiny.SEARCH),
        seed=0,
        stage=stage,
        curious=stage == "explore",
    )


def batch_of(task: str, length: int) -> dict[str, jax.Array]:
    """Two episodes of random moves, as a batch [2, T]."""
    env, rng = registry.make(task, TaskOptions()), np.random.default_rng(0)
    rows: dict[str, list[Any]] = {k: [] for k in ("state", "mask", "action", "reward", "ended")}
    for episode in range(2):
        seen, paid, ended = env.reset(seed=episode)[0], 0.0, False
        for _ in range(length):
            action = int(rng.choice(np.flatnonzero(seen["mask"])))
            row = (seen["state"], seen["mask"], np.eye(4)[action], paid, ended)
            for name, value in zip(rows, row, strict=True):
                rows[name].append(np.asarray(value))
            seen, paid, ended, *_ = env.step(action)
    out = {k: jnp.asarray(np.stack(v).reshape(2, length, *v[0].shape)) for k, v in rows.items()}
    ended = out.pop("ended").astype(bool)
    numbers = {k: out[k].astype(jnp.float32) for k in ("action", "reward")}
    none = jnp.zeros((2, length), bool)
    return out | numbers | {"is_first": none, "is_terminal": ended}


@pytest.mark.parametrize("task", ["maze/collect", "maze/free"])
def test_it_foretells_what_comes(task: str) -> None:
    """Observation, reward and end of each step, but for the ghost, whose moves are by chance."""
    agent, batch = fresh(task), batch_of(task, 12)
    model, side = agent.model, registry.pure(task).side

    @eqx.filter_jit
    def foretold(model: Any, state: Any, action: Any) -> Any:
        now = model.observe(model.initial(), action, {"state": state}, jnp.array(False), KEY)
        after = model.imagine(now, action, KEY)
        features = model.features(after)
        told = model.reward(features), model.continuation(features)
        return model.task.observe(after.state)["state"], *told

    each = jax.vmap(jax.vmap(foretold, (None, 0, 0)), (None, 0, 0))
    seen, reward, goes_on = each(model, batch["state"][:, :-1], batch["action"][:, :-1])
    lasted = ~np.asarray(batch["is_terminal"][:, :-1])  # after an end there is no more to foretell
    no_ghost = np.ones(seen.shape[-1], bool)
    no_ghost[3 * (2 * side - 1) ** 2 : 4 * (2 * side - 1) ** 2] = False
    for mine, real in ((seen[..., no_ghost], batch["state"][:, 1:, no_ghost]),):
        np.testing.assert_array_equal(np.asarray(mine)[lasted], np.asarray(real)[lasted])
    np.testing.assert_array_equal(reward[lasted], batch["reward"][:, 1:][lasted])
    if task != "maze/free":  # where the ghost may end an episode
        np.testing.assert_array_equal(goes_on[lasted], 1.0 - batch["is_terminal"][:, 1:][lasted])
    assert (np.abs(reward).max() > 0) == (task == "maze/collect")


def test_a_learnt_policy_and_value_in_the_simulator() -> None:
    """Of a real state they say what they said; of a foretold one what they would say of the real
    one that comes, whose reward is the simulator's."""
    learnt = fresh(model="muzero")
    rng = np.random.default_rng(0)
    learnt = jax.tree.map(  # a fresh critic's values are all alike
        lambda x: x + rng.normal(0, 0.3, x.shape).astype(x.dtype) if eqx.is_array(x) else x, learnt
    )
    agent = in_the_simulator(learnt, fresh())
    batch = batch_of("maze/collect", 12)
    first, second = ({"state": batch["state"][0, t]} for t in (0, 1))

    def heads(of: Any, state: Any) -> list[np.ndarray]:
        features = of.model.features(state)
        return [of.actor(features).log_probabilities, of.critic(features).mean()]

    @eqx.filter_jit
    def told(agent: Any, learnt: Any) -> tuple[Any, Any, Any]:
        def seen(of: Any, observation: Any) -> Any:
            nothing = jnp.zeros(4)
            memory, noise = of.model.initial(), of.model.noise(KEY)
            return of.model.observe(memory, nothing, observation, jnp.array(True), noise)

        now = seen(agent, first)
        after = agent.model.imagine(now, batch["action"][0, 0], KEY)
        mine = [*heads(agent, now), *heads(agent, after)]
        real = [*heads(learnt, seen(learnt, first)), *heads(learnt, seen(learnt, second))]
        return mine, real, agent.model.reward(agent.model.features(after))

    mine, real, reward = told(agent, learnt)
    for one, other in zip(mine, real, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert abs(float(mine[1]) - float(mine[3])) > 1e-3
    assert float(reward) == float(batch["reward"][0, 1])
    same = jax.tree.map(lambda a, b: bool((a == b).all()), agent.slow.value["actor"], agent.actor)
    assert all(jax.tree.leaves(same))


def test_a_search_in_it_takes_the_pellet_next_door() -> None:
    """With heads that know nothing yet, from states where some move is paid at once."""
    agent, batch = fresh(), batch_of("maze/collect", 12)
    task = registry.pure("maze/collect")

    @eqx.filter_jit
    def paid(states: jax.Array) -> jax.Array:
        def one(vector: jax.Array, action: jax.Array) -> jax.Array:
            return task.step(task.read({"state": vector}), action, KEY)[1]

        return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(states, jnp.eye(4))

    states = batch["state"].reshape(-1, 690)
    chances = np.asarray(paid(states))
    index = np.flatnonzero((chances.max(-1) > 0) & (chances.min(-1) == 0))
    assert len(index) > 3

    @eqx.filter_jit
    def chosen(agent: Any, states: jax.Array, invalid: jax.Array) -> jax.Array:
        first = jnp.ones((), bool)
        model = agent.model

        def see(state: jax.Array) -> Any:
            return model.observe(model.initial(), jnp.zeros(4), {"state": state}, first, KEY)

        seen = jax.vmap(see)(states)
        arguments = (model, agent.actor, objective_of(agent, 0.0), seen, KEY, LARGE)
        return search(*arguments, greedy=True, invalid=invalid).action.argmax(-1)

    invalid = ~batch["mask"].reshape(-1, 4)[index]
    found = np.asarray(chosen(agent, states[index], invalid))
    np.testing.assert_array_equal(chances[index, found], 1.0)


@pytest.mark.parametrize(("stage", "learn"), [("transfer", "mcts"), ("explore", "none")])
def test_its_loss_reaches_what_it_has(stage: str, learn: Any) -> None:
    agent, batch = fresh(stage=stage, learn=learn), batch_of("maze/collect", 5)
    own = {"encoder", "actor", "critic"} | ({"explorer"} if stage == "explore" else set())
    assert set(agent.components()) == own
    assert not agent.foresees

    def loss(agent: Any, batch: dict) -> Any:
        return agent_loss(agent, batch, KEY, stage=stage, dtype=jnp.dtype("float32"))

    _, aux = eqx.filter_eval_shape(loss, agent, batch)
    assert {"loss/value", "loss/policy", "latent/spread"} <= set(aux.metrics)
    if stage == "explore":
        assert not agent.model.pays  # rewards are never read
        return
    gradients, _ = eqx.filter_jit(eqx.filter_grad(loss, has_aux=True))(agent, batch)
    for name in ("encoder", "actor", "critic"):
        parts = jax.tree.leaves(eqx.filter(getattr(gradients, name), eqx.is_array))
        assert any(float(jnp.abs(part).max()) > 0 for part in parts), name


@pytest.mark.parametrize("name", ["none", "cem", "mppi", "mcts"])
def test_every_planner_acts_in_it(name: Any) -> None:
    """Their programs are traced here; what they choose is tested in worlds of a few numbers."""
    settings = PlanningSettings(samples=8, elites=2, iterations=1, horizon=2, search=tiny.SEARCH)
    agent, planner = fresh(), build_planner(name, settings)
    memory = fresh_memory(agent, 2, planner)
    rows = {"state": jnp.zeros((2, 690))}

    def go(agent: Any, memory: Any) -> Any:
        first, mask = jnp.ones(2, bool), jnp.ones((2, 4), bool)
        return act(agent, memory, rows, first, KEY, planner=planner, greedy=True, mask=mask)

    action, after = eqx.filter_eval_shape(go, agent, memory)
    assert action.shape == (2, 4)
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), memory, after)
    assert all(jax.tree.leaves(same))


def test_only_pure_tasks_are_planned_in() -> None:
    with pytest.raises(TaskError, match=r"desk/reach.*no pure function.*maze"):
        registry.pure("desk/reach")
    with pytest.raises(TaskError, match="no pure function"):
        registry.pure("gymnasium:Acrobot-v1")


MAZE = """
[tasks]
explore = "maze/free"
transfer = ["maze/collect"]
[agent]
world_model = "simulator"
[transfer.arms]
policy = ["policy"]
"""


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ('tasks.transfer=["desk/reach"]', r'agent.world_model = "simulator".*desk/reach'),
        ('tasks.explore="crafter/reward"', r'agent.world_model = "simulator".*crafter/reward'),
        ('tasks.observe=["image"]', r'tasks.observe = \["image"\].*use \["state"\]'),
        ("tasks.action_repeat=2", "tasks.action_repeat = 2.*use 1"),
        ("muzero.history=2", "muzero.history = 2.*whole state.*use 1"),
        ('transfer.arms.x=["world_model"]', 'has no dynamics: agent.world_model is "simulator"'),
        ('transfer.arms.x=["dynamics"]', "transfer.arms.x.carry.*has no dynamics"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(assignment: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MAZE)
    assert load_study(tmp_path / "mine.toml").first.agent.world_model == "simulator"
    with pytest.raises(StudyError, match=said) as error:
        load_study(tmp_path / "mine.toml", overrides=[assignment])
    assert "\n" not in str(error.value)
