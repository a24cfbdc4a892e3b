"""Planning towards what is shown: the objective by hand, a known way, goals from files."""

import json
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline import toml
from pipeline.cli import main
from pipeline.settings import resolved
from pipeline.watch import watch
from policies.agent import act, fresh_memory
from policies.goals import GoalObjective, distance, goal_features
from policies.mpc import evaluate
from policies.objectives import Objective
from policies.planners import build_planner
from policies.settings import PlanningSettings
from stages import checkpoints, watching
from stages.explore import fresh_agent
from stages.goals import NEAR, read_goal
from stages.watching import beside
from tasks import registry
from tasks.contract import TaskError
from tasks.settings import TaskOptions
from tests import tiny
from tests.test_mpc import World, actor

KEY = jax.random.key(0)
GOAL = jnp.array([4.0, 3.0])
OPTIONS = TaskOptions()


def test_a_step_costs_its_distance_by_hand() -> None:
    wish = GoalObjective(GOAL, 0.97)
    assert isinstance(wish, Objective)
    after = jnp.array([1.0, 2.0])  # off by 3 and 1
    assert float(distance(after, GOAL)) == pytest.approx(5**0.5, rel=1e-6)
    assert float(wish.reward(GOAL, jnp.zeros(1), after)) == pytest.approx(-0.03 * 5**0.5, rel=1e-5)
    assert float(wish.value(after)) == pytest.approx(-(5**0.5), rel=1e-6)
    assert float(wish.discount(after)) == pytest.approx(0.97)
    assert float(distance(GOAL, GOAL)) == 0


def test_a_plan_is_worth_the_discounted_mean_of_its_distances() -> None:
    """A distance of 1 for a step, then at the goal for good: a tenth of it."""
    goal = jnp.array([0.0, 1.0])
    places = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    world = World(lambda x, a: x + a)
    moves = jnp.diff(places, axis=0)[None]
    wish = GoalObjective(goal, 0.9)
    for mix in (1.0, 0.8):
        found = evaluate(world, wish, places[0], moves, jnp.zeros((3, 1)), mix)
        # with lambda below 1 the first step is taken to last, a fifth of the time
        expected = -(0.1 * 1.0 + 0.9 * (1 - mix) * 1.0)
        assert float(found[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_a_planner_takes_the_shortest_way(name: Any) -> None:
    """From (1, 0) to (0, 1), a tenth a step: the best actions are (-1, 1) until it is there."""
    two = tiny.CONTINUOUS
    world, wish = World(lambda x, a: x + 0.1 * a), GoalObjective(jnp.array([0.0, 1.0]), 0.9)
    settings = PlanningSettings(
        samples=128, elites=16, horizon=4, std_from=1.0, std_to=0.01, policy_share=0.0
    )
    planner, by = build_planner(name, settings), actor(two)

    @jax.jit
    def step(state: Any, memory: Any, key: Any) -> Any:
        plan = planner(world, by, wish, state, memory, key, greedy=True)
        return world.imagine(state, plan.action, None), plan.memory, plan.action

    state, memory = jnp.array([1.0, 0.0]), planner.initial(by)
    for number in range(10):
        state, memory, action = step(state, memory, jax.random.fold_in(KEY, number))
        if number < 5:
            np.testing.assert_allclose(action, [-1.0, 1.0], atol=0.15)
    assert float(distance(state, wish.goal)) < 0.1  # 1 at first


def test_a_goal_is_held_until_it_has_settled() -> None:
    observation = {"state": jnp.array([0.3, -0.2])}
    world = World(lambda x, a: x)
    np.testing.assert_allclose(goal_features(world, observation, 1, KEY), [0.3, -0.2], rtol=1e-6)
    agent = tiny.agent()
    seen = {"state": jnp.ones(3)}
    found = goal_features(agent.model, seen, 2, KEY)
    latents = found[tiny.MODEL.recurrent :].reshape(tiny.MODEL.latents, tiny.MODEL.classes)
    np.testing.assert_allclose(latents.sum(-1), 1.0, rtol=1e-5)  # means of one-hot latents
    assert 0 < float(jnp.abs(found[: tiny.MODEL.recurrent]).max()) < 1


def test_an_agent_acts_for_the_goal_and_not_for_rewards() -> None:
    agent = tiny.agent()
    planner = build_planner("mppi", PlanningSettings(samples=16, elites=4, horizon=2))
    observation = {"state": tiny.batch(2, 1)["state"][:, 0]}
    first, memory = jnp.ones(2, bool), fresh_memory(agent, 2, planner)

    def actions(goal: Any) -> Any:
        return act(agent, memory, observation, first, KEY, planner=planner, greedy=True, goal=goal)

    size = tiny.MODEL.recurrent + tiny.MODEL.latents * tiny.MODEL.classes
    one, other = jax.random.normal(KEY, (2, size))
    assert np.any(actions(one)[0] != actions(other)[0])
    assert np.any(actions(one)[0] != actions(None)[0])


# Goals from files and scripted episodes


def test_a_scripted_goal_is_what_the_episode_shows() -> None:
    spec = registry.spec("desk/free", OPTIONS)
    env = registry.make("desk/reach", OPTIONS)
    observation, _ = env.reset(seed=7)
    assert np.array_equal(
        read_goal("desk/reach@0", spec, OPTIONS, 7).observation["state"], observation["state"]
    )
    oracle = registry.extras("desk/reach", OPTIONS).oracle
    assert oracle is not None
    for _ in range(3):
        observation, *_ = env.step(oracle(env))
    for text in ("desk/reach@3", "desk/reach:sparse@3:7"):
        seed = 7 if text.endswith("@3") else 9
        goal = read_goal(text, spec, OPTIONS, seed)
        assert np.array_equal(goal.observation["state"], observation["state"])


def test_files(tmp_path: Path) -> None:
    path = str(tmp_path / "goal.npz")
    np.savez(path, state=np.arange(15.0), more=np.zeros(2))
    found = read_goal(path, registry.spec("desk/free", OPTIONS), OPTIONS, 0)
    assert found.observation["state"].dtype == np.float32
    assert found.observation.keys() == {"state"}
    seeing = TaskOptions(observe=("image",), image_size=16)
    spec = tiny.task_spec({"image": tiny.ArraySpec((16, 16, 3), "uint8")})
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    iio.imwrite(tmp_path / "goal.png", picture)
    goal = read_goal(str(tmp_path / "goal.png"), spec, seeing, 0)
    assert np.array_equal(goal.observation["image"], picture)
    assert goal.frame is not None
    frames = beside([np.zeros_like(goal.frame)], goal)
    assert frames[0].shape == (seeing.video_size, 2 * seeing.video_size, 3)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("goal", ["--goal goal", "FILE.npz", "TASK@STEP"]),
        ("none.npz", ["none.npz", "No such file"]),
        ("broken.npz", ["broken.npz", "no .npz"]),
        ("short.npz", ["'state' is float64 [3]", "float32 [15]"]),
        ("other.npz", ["lacks 'state'", "it has image"]),
        ("words.npz", ["'state'", "float32 [15]"]),
        ("endless.npz", ["not finite"]),
        ("goal.png", ["a picture is not enough", "state"]),
        ("desk/reech@5", ["desk/reach"]),
        ("desk/reach@500", ["ends after 100 steps"]),
        ("maze/goal@5", ["'state' is", "float32 [15]"]),
        ("gymnasium:CartPole-v1@5", ["no scripted policy"]),
    ],
)
def test_a_goal_that_cannot_be_used(
    text: str, parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.npz").write_text("PK no archive")
    np.savez("short.npz", state=np.zeros(3))
    np.savez("other.npz", image=np.zeros(3))
    np.savez("words.npz", state=np.array(["a"] * 15))
    np.savez("endless.npz", state=np.full(15, np.inf))
    with pytest.raises(TaskError) as told:
        read_goal(text, registry.spec("desk/free", OPTIONS), OPTIONS, 0)
    line = str(told.value)
    assert "\n" not in line
    assert all(part in line for part in parts), line


# The command


@pytest.fixture
def run(tmp_path: Path, undisturbed: None) -> Path:
    """A run's folder with an exploration alone."""
    study = tiny.study(planning={"samples": 16, "elites": 4, "horizon": 2})
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "study.toml").write_text(toml.dumps(resolved(study)))
    spec = registry.spec("desk/free", study.tasks)
    agent = fresh_agent(study, spec, 0, "explore", curious=True)
    job = folder / "explore" / "seed-0"
    checkpoints.save(job / "checkpoint", "updates-000000010", agent.components())
    return folder


def test_an_exploration_is_watched_on_its_way_to_a_goal(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run / "film.mp4"
    arguments = ["--explore", "--planner", "mppi", "--goal", "desk/reach@5", "--json"]
    monkeypatch.setattr(sys, "argv", ["craik", "watch", str(run), *arguments, "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    found = json.loads(capsys.readouterr().out)
    assert found | {"task": "desk/free", "agent": "explore", "planner": "mppi"} == found
    for name in ("latent", "state", "tip_m", "puck_m"):
        first, least, last = found[f"to_goal/{name}"]
        assert 0 <= least <= min(first, last)
    assert found["to_goal/puck_m"][0] == 0  # the same episode: reaching moves no puck
    assert set(found["arrived"]) <= {"tip"}
    assert found["to_goal/tip_m"][0] > NEAR or not found["arrived"]
    kept = str(run / "film.goal.npz")
    again = watch(run, out, explore=True, goal=kept, overrides=['planning.evaluate="mppi"'])
    assert again["to_goal/state"] == found["to_goal/state"]


def test_an_exploration_is_watched_as_it_explores(run: Path) -> None:
    found = watch(run, run / "film.mp4", explore=True, task="desk/reach:dense")
    assert found | {"task": "desk/reach:dense", "planner": "none"} == found
    assert found["return"] > 0
    assert not any(name.startswith("to_goal") for name in found)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--explore", "--goal", "desk/reach@5"], ["--goal", "--planner mppi"]),
        (["--explore", "--arm", "both"], ["--explore", "arms"]),
        (["--explore", "--start"], ["--explore", "start"]),
        (["--explore", "--task", "desk/rech"], ["--task desk/rech", "did you mean"]),
        (["--explore", "--planner", "mppi", "--goal", "no.npz"], ["no.npz", "No such file"]),
        (["--explore", "--set", "seeds=[3]"], ["seed-3", "no checkpoint"]),
    ],
)
def test_mistakes_are_one_line(
    mistake: Any, run: Path, options: list[str], parts: list[str]
) -> None:
    line = mistake("watch", str(run), *options)
    assert all(part in line for part in parts), line


def test_a_goal_is_looked_at_before_the_agent_is_loaded(
    mistake: Any, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "fresh_agent", None)  # not to be called
    options = ["--explore", "--planner", "mppi", "--goal", "desk/rech@5"]
    assert "desk/rech" in mistake("watch", str(run), *options)
