"""The maze: its rules by hand, its levels, what is seen of it, and its scripted player."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stages.rollout import Examination
from stages.settings import Study
from tasks import registry
from tasks.contract import TaskError
from tasks.maze import KINDS, SIZES, Maze
from tasks.maze_levels import Layout, distances, generate
from tasks.maze_rules import State, step, valid
from tasks.maze_views import COLOURS, PLAYER, WALL, cells, observe, picture, read, vector_size
from tasks.settings import MOST_LEVELS, TaskOptions
from tasks.vector import make_vector

UP, DOWN, LEFT, RIGHT = range(4)
FULL = Layout(7, pellets=8, exit=True, ghost=True)
KEY = jax.random.key(0)
take, mapped = jax.jit(step), jax.jit(jax.vmap(step))
all_seen, all_valid = jax.jit(jax.vmap(observe)), jax.jit(jax.vmap(valid))
keys_of = jax.jit(jax.vmap(lambda seed, count: jax.random.fold_in(jax.random.key(seed), count)))
make_levels = jax.jit(jax.vmap(lambda seed: generate(FULL, jax.random.key(seed))))


def maze(*rows: str) -> State:
    """A state by its picture: # wall, . pellet, E exit, G ghost, P player."""
    grid = np.array([list(row) for row in rows])
    return State(*(jnp.asarray(grid == sign) for sign in "#.EGP"))


def drawn(state: State) -> list[str]:
    """The picture of a state."""
    grid = np.full(state.walls.shape, " ")
    for plane, sign in zip(state, "#.EGP", strict=True):
        grid[np.asarray(plane)] = sign
    return ["".join(row) for row in grid]


def walk(state: State, *actions: int) -> tuple[State, list[float], list[bool], list[bool]]:
    """Several moves: the last state, rewards, dones, successes."""
    told = []
    for action in actions:
        state, *outcome = take(state, np.uint32(action), KEY)
        told.append([np.asarray(x).item() for x in outcome])
    rewards, dones, successes = (list(column) for column in zip(*told, strict=True))
    return state, rewards, dones, successes


def env_of(task: str, **options: object) -> Maze:
    env = registry.make(f"maze/{task}", TaskOptions(**options))  # pyright: ignore[reportArgumentType]
    assert isinstance(env, Maze), "the maze is stepped without wrappers"
    return env


def test_walls_and_the_edge_stop_and_are_masked():
    state = maze("P# ", " ..")
    assert valid(state).tolist() == [False, True, False, False]
    for action in (UP, LEFT, RIGHT):
        after, rewards, dones, _ = walk(state, action)
        assert drawn(after) == ["P# ", " .."]
        assert (rewards, dones) == ([0], [False])
    assert drawn(walk(state, DOWN)[0]) == [" # ", "P.."]
    assert drawn(walk(state, DOWN, UP)[0]) == ["P# ", " .."]
    assert drawn(walk(state, DOWN, RIGHT, LEFT)[0]) == [" # ", "P ."]


def test_a_pellet_pays_once_and_the_last_one_ends():
    state, rewards, dones, successes = walk(maze("P. ."), RIGHT, LEFT, RIGHT, RIGHT, RIGHT)
    assert rewards == [1, 0, 0, 0, 1]
    assert dones == successes == [False] * 4 + [True]
    assert not state.pellets.any()


def test_the_exit_pays_once_no_pellet_is_left():
    _, rewards, dones, successes = walk(maze("PE."), RIGHT, RIGHT, LEFT)
    assert rewards == [0, 1, 1]
    assert dones == successes == [False, False, True]
    assert walk(maze("PE"), RIGHT)[1:] == ([1.0], [True], [True])


def test_the_ghost_ends_the_episode_without_success():
    assert walk(maze("PG."), RIGHT)[1:] == ([0.0], [True], [False])  # it was walked into
    assert walk(maze("PG#", "##."), LEFT)[1:] == ([0.0], [True], [False])  # it had no other way
    assert walk(maze("P.G"), RIGHT)[1:] == ([1.0], [True], [True])  # it comes too late


def test_the_ghost_keeps_to_the_cells_and_comes_nearer():
    state = maze("P      ", " ### # ", " #     ", "   # #G", ".      ")
    keys = jax.random.split(KEY, 400)
    after, _, dones, _ = jax.jit(jax.vmap(lambda key: step(state, jnp.uint32(UP), key)))(keys)
    assert not dones.any()
    assert (after.ghost.sum((1, 2)) == 1).all()
    assert not (after.ghost & after.walls).any()
    moved = {tuple(np.argwhere(ghost)[0].tolist()) for ghost in np.asarray(after.ghost)}
    assert moved == {(2, 6), (4, 6)}
    nearer = np.asarray(after.ghost[:, 2, 6]).mean()
    assert 0.68 < nearer < 0.82  # half of the time, and half of the other half


def test_levels_are_functions_of_their_seed_and_can_be_solved():
    number = 300
    states, again = make_levels(jnp.arange(number)), make_levels(jnp.arange(number))
    assert all(np.array_equal(*pair) for pair in zip(states, again, strict=True))
    way = np.asarray(jax.jit(jax.vmap(distances))(states.walls, states.player))
    walls, pellets, exit, ghost, player = (np.asarray(plane) for plane in states)
    assert (way[~walls] < 49).all(), "every open cell can be reached"
    assert (walls.sum((1, 2)) >= round(0.3 * 49)).all()
    for plane, count in ((pellets, 8), (exit, 1), (ghost, 1), (player, 1)):
        assert (plane.sum((1, 2)) == count).all()
        assert not (plane & walls).any()
    assert not (player & (pellets | exit | ghost)).any()
    assert not (pellets & exit).any()
    farthest = np.where(walls, 0, way).max((1, 2))
    assert (2 * way[ghost] >= farthest).all()
    assert (2 * way[exit] >= farthest).all()
    assert len({w.tobytes() for w in walls}) == number
    alone = make_levels(jnp.arange(7, 8))
    assert all(np.array_equal(one[0], each[7]) for one, each in zip(alone, states, strict=True))


def test_the_vector_tells_the_whole_state_from_where_the_player_is():
    states = make_levels(jnp.arange(50))
    vectors = all_seen(states)
    assert vectors.shape == (50, vector_size(7))
    back = jax.jit(jax.vmap(lambda vector: read(vector, 7)))(vectors)
    assert all(np.array_equal(*pair) for pair in zip(back, states, strict=True))
    masks = all_valid(states)
    planes = np.asarray(vectors[:, : 4 * 13 * 13]).reshape(50, 4, 13, 13)
    beside = [planes[:, 0, row, column] for row, column in ((5, 6), (7, 6), (6, 5), (6, 7))]
    assert np.array_equal(np.stack(beside, 1) == 0, masks)


def test_the_picture_has_everything_in_its_place():
    looks = np.asarray(cells(maze("P# ", " .G", "  E")))
    assert looks.tolist() == [[5, 1, 0], [0, 2, 4], [0, 0, 3]]
    shown = picture(looks, 50)  # 5 cells with the rim, 10 pixels each
    assert (shown.shape, shown.dtype) == ((50, 50, 3), np.uint8)
    assert (shown[5::10, 5::10][1:4, 1:4] == COLOURS[looks]).all()
    assert (shown[[0, -1]] == COLOURS[WALL]).all()
    assert (shown[10, 10] == COLOURS[0]).all(), "what is smaller than its cell has a floor around"
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == len(COLOURS)


@pytest.mark.parametrize("task", KINDS)
def test_the_environment_is_the_pure_function(task: str):
    """Four environments against the rules, jitted and mapped, from the same states and keys."""
    envs, random, kind = [env_of(task) for _ in range(4)], np.random.default_rng(0), KINDS[task]
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
    for _ in range(20):
        simulators = [env.simulator for env in envs]
        states = jax.tree.map(lambda *planes: np.stack(planes), *[s.state for s in simulators])
        seeds = np.array([s.seed for s in simulators])
        counts = np.array([s.count for s in simulators], np.uint32)
        actions = random.integers(4, size=4).astype(np.uint32)
        after, *outcome = mapped(states, actions, keys_of(seeds, counts))
        rewards, dones, successes = map(np.asarray, outcome)
        told = [env.step(action) for env, action in zip(envs, actions.tolist(), strict=True)]
        vectors = np.stack([observation["state"] for observation, *_ in told])
        assert np.array_equal(vectors, all_seen(after))
        masks = np.stack([observation["mask"] for observation, *_ in told])
        assert np.array_equal(masks, all_valid(after))
        assert [t[1] for t in told] == (rewards * kind.rewarded).tolist()
        assert [t[2] for t in told] == (dones & (kind.rewarded | ~successes)).tolist()
        assert [t[4]["success"] for t in told] == (successes & kind.rewarded).tolist()
        for seed, env in enumerate(envs):
            if told[seed][2]:
                env.reset(seed=100 + seed)


def test_episodes_follow_their_seed_and_are_restored():
    def batch(seeds: list[int]):
        return make_vector("maze/ghost", TaskOptions(), seeds)

    one, other = batch([1, 2, 3]), batch([1, 2, 3])
    random = np.random.default_rng(0)
    one.reset(), other.reset()
    for action in random.integers(4, size=(60, 3)):
        first, second = one.step(action), other.step(action)
        assert all(np.array_equal(first[key], second[key]) for key in first)
    back = batch([1, 2, 3])
    rows = back.restore(one.snapshot())
    assert all(np.array_equal(first[key], rows[key]) for key in rows)
    action = np.array([0, 1, 2])
    ahead, then = one.step(action), back.step(action)
    assert all(np.array_equal(ahead[key], then[key]) for key in ahead)


def play(task: str, variant: str, policy: str, episodes: int) -> tuple[float, float]:
    """Mean return and share of successes."""
    vector = make_vector(f"maze/{task}:{variant}", TaskOptions(), range(episodes))
    rows, random = vector.reset(), np.random.default_rng(0)
    total, alive, success = 0.0, np.ones(episodes, bool), np.zeros(episodes, bool)
    for _ in range(SIZES[variant].steps):
        uniform = random.integers(4, size=episodes)
        rows = vector.step(vector.oracle_actions() if policy == "oracle" else uniform)
        total += float(rows["reward"][alive].sum())
        success |= alive & rows["success"]
        alive &= ~rows["is_last"]
    assert not alive.any()
    return total / episodes, float(success.mean())


@pytest.mark.parametrize(
    ("task", "oracle", "random"),
    [("goal", (1, 1), (0.5, 0.5)), ("collect", (8, 1), (5, 0.2)), ("ghost", (4, 0.2), (3, 0.1))],
)
def test_the_oracle_beats_random(task: str, oracle: tuple, random: tuple):
    value, success = play(task, "small", "oracle", 24)
    assert value >= oracle[0]
    assert success >= oracle[1]
    value, success = play(task, "small", "random", 24)
    assert value < random[0]
    assert success <= random[1]


def test_free_pays_nothing_and_only_the_ghost_or_time_ends_it():
    env, terminated = env_of("free"), 0
    random = np.random.default_rng(0)
    for seed in range(20):
        env.reset(seed=seed)
        for count in range(1, 51):
            _, reward, over, truncated, info = env.step(random.integers(4))
            assert (reward, info["success"]) == (0, False)
            assert truncated == (count == 50 and not over)
            if over or truncated:
                break
        terminated += over
    assert terminated > 10


def test_training_keeps_to_its_levels_and_evaluation_to_others():
    def walls(options: TaskOptions, seeds: range) -> list[bytes]:
        env = registry.make("maze/goal", options)
        return [env.reset(seed=seed)[0]["state"].tobytes() for seed in seeds]

    few = TaskOptions(levels=3)
    seen = walls(few, range(60))
    assert len(set(seen)) == 3
    more = set(walls(TaskOptions(levels=30), range(300)))
    assert set(seen) < more
    assert len(more) == 30
    unseen = walls(registry.unseen(few), range(60))
    assert len(set(unseen)) == 60
    assert not set(unseen) & more
    assert unseen == walls(registry.unseen(TaskOptions(levels=30)), range(60))
    assert unseen == walls(TaskOptions(), range(60))


def test_an_examination_is_on_unseen_levels_unless_asked():
    tasks = {"explore": "maze/free", "transfer": ["maze/goal"], "levels": 2}
    study = Study.model_validate({"name": "maze", "tasks": tasks, "evaluate": {"environments": 12}})
    spec, starts = registry.spec("maze/goal", study.tasks), {}
    for seen in (False, True):
        exam = Examination(study, "maze/goal", spec, "evaluate", 12, seen=seen)
        starts[seen] = {state.tobytes() for state in exam.vector.restore(exam._start)["state"]}
        exam.close()
    env = env_of("goal", levels=2)
    trained = {env.reset(seed=seed)[0]["state"].tobytes() for seed in range(30)}
    assert starts[True] == trained
    assert len(starts[False]) == 12
    assert not starts[False] & trained


@pytest.mark.parametrize("name", ["desk/reach", "gymnasium:CartPole-v1"])
def test_levels_where_there_are_none_are_refused(name: str):
    message = rf"{name}' has no levels that tasks.levels = 5 could .*; suites with levels: maze"
    with pytest.raises(TaskError, match=message):
        registry.spec(name, TaskOptions(levels=5))


@pytest.mark.parametrize("levels", [0, MOST_LEVELS + 1])
def test_as_many_levels_as_there_are(levels: int):
    with pytest.raises(ValueError, match="levels"):
        TaskOptions(levels=levels)


def test_large_is_larger_and_pictures_follow_the_options():
    env = env_of("ghost:large", observe=("image", "state"), image_size=48, video_size=96)
    observation, _ = env.reset(seed=0)
    assert observation["state"].shape == (vector_size(11),)
    assert observation["image"].shape == (48, 48, 3)
    assert env.render().shape == (96, 96, 3)
    assert (observation["image"] == COLOURS[PLAYER]).all(-1).any()


def test_a_step_is_cheap():
    env = env_of("ghost")
    env.reset(seed=0)
    env.step(0)
    start = time.process_time()
    for action in np.random.default_rng(0).integers(4, size=1000):
        env.step(action)
    assert time.process_time() - start < 1.0  # 0.1 s on one core of 2026
