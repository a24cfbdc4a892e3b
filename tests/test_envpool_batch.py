"""Episodes of EnvPool's batches: from their own seed alone, never across an end. By a fake pool."""

import gc
import weakref

import numpy as np
import pytest

from tasks import adapters, envpool_pools, envpool_task, registry
from tasks.check_task import check
from tasks.contract import TaskError
from tasks.envpool_group import EnvPoolGroup, make_group
from tasks.envpool_pools import Pools, Recipe, told
from tasks.envpool_task import EnvPoolEnv, endings
from tasks.group import Fault, Group, Replay
from tasks.pool import Pool
from tasks.settings import TaskOptions
from tasks.vector import Vector, make_vector
from tests.fake_envpool import Counting, FakePool, counting_spec

STATE = TaskOptions()


def group(number: int, options: TaskOptions = STATE) -> EnvPoolGroup:
    task, spec = Counting(options), counting_spec(options)
    return EnvPoolGroup(task, options, spec, Pools(number, FakePool), number)


def test_what_an_episode_is_follows_from_its_seed_whoever_else_is_in_the_batch():
    pools, alone = Pools(3, FakePool), Pools(1, FakePool)
    first = pools.start({0: Recipe("t", 5), 1: Recipe("t", 6), 2: Recipe("t", 5)})
    assert first["obs.start"][0] == first["obs.start"][2] != first["obs.start"][1]
    pools.step([0, 1, 2], np.array([1, 2, 3]))
    again = pools.start({1: Recipe("t", 5)})  # it begins anew while the others go on
    assert again["obs.start"].tolist() == [first["obs.start"][0]]
    assert again["elapsed"].tolist() == [0]
    assert alone.start({0: Recipe("t", 5)})["obs.start"][0] == first["obs.start"][0]
    after = pools.step([0, 1, 2], np.array([1, 2, 3]))
    assert after["elapsed"].tolist() == [2, 1, 2]
    assert after["obs.start"].tolist() == [first["obs.start"][0]] * 3


def test_rows_come_in_the_order_asked_however_they_are_spread_over_pools():
    made: list[FakePool] = []

    def make(*arguments: object) -> FakePool:
        made.append(FakePool(*arguments))  # pyright: ignore[reportArgumentType]
        return made[-1]

    pools = Pools(4, make)
    recipes = {3: Recipe("a", 3), 0: Recipe("b", 0), 1: Recipe("a", 1), 2: Recipe("a", 2)}
    seen = pools.start(recipes)
    assert [(pool.id, pool.seeds) for pool in made] == [("a", [3, 1, 2]), ("b", [0])]
    starts = dict(zip(recipes, seen["obs.start"], strict=True))
    rows = pools.step([0, 1, 3], np.array([10, 11, 13]))
    assert rows["reward"].tolist() == [10, 11, 13]
    assert rows["obs.start"].tolist() == [starts[0], starts[1], starts[3]]
    assert pools.last([3, 2])["obs.start"].tolist() == [starts[3], starts[2]]
    assert pools.last([3, 2])["elapsed"].tolist() == [1, 0]


def test_other_configurations_and_games_of_two_have_pools_of_their_own():
    made: list[int] = []

    def make(id: str, seeds: list[int], config: dict[str, int]) -> FakePool:
        made.append(len(seeds))
        assert config == ({"level": 7} if 2 in seeds else {})
        return FakePool(id, seeds, config)

    Pools(3, make).start({0: Recipe("t", 0), 1: Recipe("t", 1), 2: Recipe("t", 2, (("level", 7),))})
    assert made == [2, 1]
    made.clear()
    Pools(2, make).start({0: Recipe("t", 0, alone=True), 1: Recipe("t", 1, alone=True)})
    assert made == [1, 1]


def test_a_step_after_the_end_is_refused():
    """EnvPool would begin anew, with an episode that no seed of ours names."""
    pools = Pools(2, FakePool)
    pools.start({0: Recipe("t", 0), 1: Recipe("t", 4)})  # two steps, six steps
    pools.step([0, 1], np.zeros(2))
    assert pools.step([0, 1], np.zeros(2))["done"].tolist() == [True, False]
    assert pools.step([1], np.zeros(1))["elapsed"].tolist() == [3]
    with pytest.raises(RuntimeError, match="environment 0 had ended"):
        pools.step([0, 1], np.zeros(2))
    with pytest.raises(RuntimeError, match="environment 1 was not started"):
        Pools(2, FakePool).step([1], np.zeros(1))


def test_a_pool_ends_with_the_last_place_in_it():
    kept: list[weakref.ref[FakePool]] = []
    there: list[int] = []  # when another was made

    def make(*arguments: object) -> FakePool:
        pool = FakePool(*arguments)  # pyright: ignore[reportArgumentType]
        there.append(sum(other() is not None for other in kept))
        kept.append(weakref.ref(pool))
        return pool

    pools = Pools(2, make)
    pools.start({0: Recipe("t", 0), 1: Recipe("t", 1)})
    pools.start({0: Recipe("t", 2)})
    gc.collect()
    assert kept[0]() is not None
    pools.start({1: Recipe("t", 3)})
    gc.collect()
    assert [pool() is None for pool in kept] == [True, False, False]
    pools.start({0: Recipe("t", 4), 1: Recipe("t", 5)})
    assert there == [0, 1, 1, 0], "the old ones went before the new one came"
    pools.drop([0, 1])
    gc.collect()
    assert [pool() is None for pool in kept] == [True] * 4


def test_what_is_told_of_players_has_an_axis_of_players():
    observation, reward = np.arange(8).reshape(4, 2), np.array([1.0, -1.0, 2.0, -2.0])
    info = {"elapsed_step": np.array([4, 5]), "who": {"id": np.array([0, 1, 0, 1])}}
    no = np.zeros(2, bool)
    seen = told((observation, reward, no, ~no, info), 2)
    assert seen["obs"].tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert seen["reward"].tolist() == [[1, -1], [2, -2]]
    assert seen["info.who.id"].tolist() == [[0, 1], [0, 1]]
    assert (seen["elapsed"].tolist(), seen["done"].tolist()) == ([4, 5], [True, True])


def test_endings_by_hand():
    seen = {"done": np.array([0, 1, 1, 1, 0], bool), "elapsed": np.array([3, 3, 9, 9, 9])}
    won = np.array([False, False, False, True, False])
    found = endings(seen, 9, over=won)
    assert found["terminated"].tolist() == [False, True, False, True, False]
    assert found["truncated"].tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("options", [STATE, TaskOptions(action_repeat=2, episode_length=2)])
def test_a_batch_gives_what_single_environments_give(
    options: TaskOptions, monkeypatch: pytest.MonkeyPatch
):
    """Action repeat, cap, resets at different times, faults aside: bit for bit the same rows."""
    monkeypatch.setattr(envpool_pools, "make_pool", FakePool)
    monkeypatch.setattr(
        registry, "make", lambda *_: adapters.limit(EnvPoolEnv(Counting(options)), options)
    )
    spec, seeds = counting_spec(options), [11, 12, 13]
    batch = Vector(spec, group(3, options), seeds)
    copies = Vector(spec, Group("counting", options, spec, 3), seeds)
    random, ends = np.random.default_rng(0), np.zeros((3, 2), int)
    one, other = batch.reset(), copies.reset()
    for _ in range(60):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one)
        ends += np.stack([one["is_last"] & one["is_terminal"], one["is_last"]], 1)
        actions = random.integers(4, size=3)
        one, other = batch.step(actions), copies.step(actions)
    assert (ends[:, 0] > 0).all()
    assert (ends[:, 1] > ends[:, 0]).all(), "some were cut short by time"
    snapshot = batch.snapshot()
    back = Vector(spec, group(3, options), seeds).restore(snapshot)
    assert all(np.array_equal(one[key], back[key]) for key in one)


def test_held_actions_by_hand():
    """Rewards of the repeated steps are summed, and nothing is stepped beyond an end."""
    options = TaskOptions(action_repeat=4, episode_length=5)
    batch = group(2, options)
    batch.run(None, {0: 0, 1: 4})  # two steps, six steps
    rows, faults = batch.run(np.array([3, 1]), {})
    assert not faults
    assert rows["reward"].tolist() == [6, 4]
    assert rows["success"].tolist() == [True, False]
    assert rows["is_last"].tolist() == rows["is_terminal"].tolist() == [True, False]
    rows, _ = batch.run(np.array([0, 2]), {0: 0})
    assert rows["is_first"].tolist() == [True, False]
    assert rows["reward"].tolist() == [0, 4]  # of the two steps that were left
    assert (rows["is_last"].tolist(), rows["is_terminal"].tolist()) == ([False, True], [False] * 2)


def test_episodes_of_other_lengths_are_brought_back_together():
    batch = group(3)
    replays = {0: Replay(4, np.array([1, 2, 3])), 2: Replay(5, np.array([2], int))}
    rows, faults = batch.replay(replays)
    assert not faults
    assert rows["state"][:, 1].tolist() == [3, 0, 1]
    assert rows["reward"].tolist() == [3, 0, 2]
    rows, _ = batch.replay({1: Replay(5, np.zeros(0, int))})
    assert rows["is_first"].tolist() == [False, True, False]


def test_faults_cost_the_batch_or_the_one():
    class Broken(Counting):
        def step(self, pools: Pools, indices: list[int], actions: np.ndarray) -> dict:  # pyright: ignore
            if (actions == 2).any():
                raise ValueError("the gripper is stuck")
            rows = super().step(pools, indices, actions)
            rows["state"][actions == 1, 0] = np.nan
            return rows

    spec = counting_spec(STATE)
    batch = EnvPoolGroup(Broken(STATE), STATE, spec, Pools(3, FakePool), 3)
    batch.run(None, {0: 4, 1: 4, 2: 4})
    _, (fault,) = batch.run(np.array([0, 1, 0]), {})
    assert (fault.indices, fault.cause) == ((1,), "state is not a finite number")
    _, (fault,) = batch.run(np.array([0, 0, 0]), {})
    assert "environment 1 was not started" in fault.cause
    batch.run(None, {0: 4, 2: 4})
    batch.run(None, {1: 4})
    _, (fault,) = batch.run(np.array([0, 0, 2]), {})
    assert fault.indices == (0, 1, 2)
    assert "the gripper is stuck" in fault.cause
    vector = Vector(
        spec, EnvPoolGroup(Broken(STATE), STATE, spec, Pools(3, FakePool), 3), [1, 2, 3]
    )
    vector.reset()
    rows = vector.step(np.array([2, 0, 0]))
    assert rows["fault"].all()
    assert rows["is_first"].all()


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(envpool_task, "find_spec", lambda name: None)
    wanted = r"task 'procgen/coinrun' needs EnvPool, .*: \.venv/bin/pip install -e '\.\[envpool\]'"
    pictures = TaskOptions(observe=("image",))
    with pytest.raises(TaskError, match=wanted):
        registry.make("procgen/coinrun", pictures)
    with pytest.raises(TaskError, match=wanted):
        make_vector("procgen/coinrun", pictures, [0])
    with pytest.raises(TaskError, match=wanted):
        registry.try_out("procgen/coinrun", pictures)  # before a study is run
    with pytest.raises(TaskError, match=wanted):
        check("procgen/coinrun", pictures)
    registry.check("procgen/coinrun")  # a study can be read without it
    assert registry.spec("procgen/coinrun", pictures).action.size == 15
    assert registry.expand(["metaworld_envpool/ml10-test"])[0] == "metaworld_envpool/drawer-open"
    assert isinstance(make_group("desk/reach", STATE, registry.spec("desk/reach", STATE), 2), Group)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("procgen/coinrun", {"observe": ("state",)}, r"pictures only; .*observe = \['image'\]"),
        ("go/9x9", {"levels": 5}, "has no levels"),
        ("jumanji/pac_man", {"levels": 5}, "has no levels"),
        ("metaworld_envpool/reach", {"observe": ("state", "image")}, r"states only; .*\['state'\]"),
    ],
)
def test_what_a_suite_does_not_have_is_one_line(name: str, options: dict, message: str):
    with pytest.raises(TaskError, match=message):
        registry.spec(name, TaskOptions(**options))


def test_a_worker_that_lost_its_batch_says_of_which_environments():
    class Lost:
        alive = True

        def rows(self, deadline: float) -> tuple[dict, list[Fault]]:
            return {}, [Fault((0, 1), "stuck")]

    pool = object.__new__(Pool)
    pool._slices, pool._workers = [range(2), range(2, 4)], [Lost(), Lost()]  # pyright: ignore
    assert pool._collect(1, 0.0)[1] == [Fault((2, 3), "stuck")]
