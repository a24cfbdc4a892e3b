"""How each suite reads what EnvPool tells, by hand-made arrays; and whom one plays Go against."""

from collections.abc import Mapping

import numpy as np
import pytest

from tasks import dm_control, dm_control_envpool, go, jumanji, metaworld_envpool, procgen
from tasks.contract import TaskError
from tasks.envpool_pools import Pools, Recipe, Seen
from tasks.go_opponent import BLACK, EMPTY, WHITE, eyes, lead, reply
from tasks.grid_planes import FLOOR, flat, marks, paint
from tasks.metaworld_splits import TASKS
from tasks.settings import MOST_LEVELS, TaskOptions

STATE = TaskOptions()


def test_marks_by_hand():
    rows, columns = np.array([[0, 2], [-1, 1]]), np.array([[1, 2], [0, 9]])
    planes = marks(rows, columns, (3, 3))
    assert np.argwhere(planes).tolist() == [[0, 0, 1], [0, 2, 2]]  # what is off the grid is not
    assert np.argwhere(marks(np.array([2]), np.array([0]), (3, 3))).tolist() == [[0, 2, 0]]


def test_a_picture_by_hand():
    planes = np.zeros((1, 2, 2, 4), bool)
    planes[0, 0, 0, :2] = True
    planes[0, 1, 0, 1] = True  # over it, in the middle half
    red, green = (255, 0, 0), (0, 255, 0)
    found = paint(planes, ((red, 1.0), (green, 0.5)), 16)
    assert found.shape == (1, 16, 16, 3)
    assert found.dtype == np.uint8
    r, g, f = list(red), list(green), list(FLOOR)
    assert found[0, 0].tolist() == [r] * 8 + [f] * 8
    for row in range(2, 6):  # a cell is eight pixels high and four wide
        assert found[0, row].tolist() == [r] * 5 + [g] * 2 + [r] + [f] * 8
    assert found[0, 6].tolist() == [r] * 8 + [f] * 8
    assert (found[0, 8:] == FLOOR).all()
    assert flat(planes).tolist() == [[1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]]


def maze_seen(**more: object) -> Seen:
    walls = np.zeros((1, 10, 10), bool)
    walls[0, 0, 1] = True
    seen = {
        "obs.walls": walls,
        "obs.agent_position.row": np.array([0]),
        "obs.agent_position.col": np.array([2]),
        "obs.target_position.row": np.array([9]),
        "obs.target_position.col": np.array([8]),
        "obs.action_mask": np.array([[False, True, True, False]]),
        "reward": np.array([0.0]),
        "done": np.array([False]),
        "elapsed": np.array([3]),
    }
    return seen | {name: np.array([value]) for name, value in more.items()}


def test_a_maze_by_hand():
    task = jumanji.JumanjiTask("maze", "", TaskOptions(observe=("state", "image")))
    rows = task.read(maze_seen(), [0])
    wall, target, player = rows["state"].reshape(3, 10, 10)
    assert [np.argwhere(plane).tolist() for plane in (wall, target, player)] == [
        *([[0, 1]], [[9, 8]], [[0, 2]]),
    ]
    assert rows["mask"].tolist() == [[False, True, True, False]]
    for at, colour in (
        ((3, 9), jumanji.WALL),
        ((62, 54), jumanji.TARGET),
        ((3, 17), jumanji.PLAYER),
    ):
        assert tuple(rows["image"][0][at]) == colour[0]
    boxed_in = task.read(maze_seen(**{"obs.action_mask": [False] * 4}), [0])
    assert boxed_in["mask"].all()
    for elapsed, reward, ends in ((7, 1, (1, 0, 1)), (100, 1, (1, 0, 1)), (100, 0, (0, 1, 0))):
        rows = task.read(maze_seen(done=True, elapsed=elapsed, reward=reward), [0])
        assert (*rows["terminated"], *rows["truncated"], *rows["success"]) == ends


def test_sokoban_by_hand():
    grid = np.zeros((1, 10, 10, 2), np.uint8)
    grid[0, 0, 0, 1], grid[0, 1, 1, 1], grid[0, 1, 1, 0], grid[0, 2, 3, 0] = 1, 2, 4, 3
    seen = maze_seen() | {"obs.grid": grid, "info.solved": np.array([True])}
    rows = jumanji.JumanjiTask("sokoban", "", STATE).read(seen, [0])
    planes = rows["state"].reshape(4, 10, 10)  # a box on a target is both
    assert np.argwhere(planes).tolist() == [[0, 0, 0], [1, 1, 1], [2, 1, 1], [3, 2, 3]]
    assert rows["success"].tolist() == [True]
    assert "mask" not in rows


def test_pac_man_by_hand():
    grid = np.ones((1, 31, 28), int)
    grid[0, 0] = 0
    eaten = [[0, 0]] * 316
    seen = maze_seen() | {
        "obs.grid": grid,
        "obs.pellet_locations": np.array([[[3, 5], [4, 5], *eaten]]),  # column, row
        "obs.power_up_locations": np.array([[[1, 3], [0, 0], [0, 0], [0, 0]]]),
        "obs.ghost_locations": np.array([[[13, 11], [13, 12], [14, 11], [14, 12]]]),
        "obs.frightened_state_time": np.array([15]),
        "obs.player_locations.x": np.array([23]),
        "obs.player_locations.y": np.array([13]),
    }
    planes = jumanji.pac_man_planes(seen)[0]
    places = [np.argwhere(plane).tolist() for plane in planes]
    assert places[0] == [[0, column] for column in range(28)]
    assert places[1:3] == [[[5, 3], [5, 4]], [[3, 1]]]
    assert places[3] == []
    assert places[4] == [[11, 13], [11, 14], [12, 13], [12, 14]]
    assert places[5] == [[23, 13]]
    assert jumanji.fright(seen).tolist() == [[0.5]]
    assert not jumanji.GAMES["pac_man"].won(seen)[0]
    calm = seen | {"obs.frightened_state_time": np.array([-4])}
    assert np.argwhere(jumanji.pac_man_planes(calm)[0, 3]).tolist() == places[4]
    assert jumanji.fright(calm).tolist() == [[0]]
    empty = seen | {"obs.pellet_locations": np.zeros((1, 318, 2), int)}
    assert jumanji.GAMES["pac_man"].won(empty)[0]


def test_levels_for_training_and_others_never_meet():
    for levels in (1, 100, 500):
        for task in ("maze", "sokoban"):
            low, high = jumanji.level_range(task, levels)
            assert (low, high) == (0, levels)
            assert jumanji.level_range(task, None)[0] >= 500 >= high
    assert jumanji.level_range("maze", None)[0] == MOST_LEVELS
    low, number = procgen.level_range(None)
    assert low == MOST_LEVELS
    assert low + number == 2**31 - 1  # EnvPool adds them up in 32 bits
    assert procgen.level_range(200) == (0, 200)
    with pytest.raises(TaskError, match="501 is more than the 500 levels for training"):
        jumanji.JumanjiTask("sokoban", "", TaskOptions(levels=501))


def test_recipes_are_functions_of_the_seed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jumanji, "_levels_folder", lambda: "/levels")
    few = TaskOptions(levels=3)
    maze = jumanji.JumanjiTask("maze", "", few)
    assert {maze.recipe(seed).seed for seed in range(40)} == {0, 1, 2}
    sokoban = jumanji.JumanjiTask("sokoban", "", few)
    assert {sokoban.recipe(seed).config for seed in range(40)} == {
        (("sokoban_level_index", level), ("base_path", "/levels")) for level in range(3)
    }
    for task in (maze, sokoban, go.GoTask("9x9", "", STATE)):
        assert task.recipe(7) == task.recipe(7)
    coins = procgen.ProcgenTask("coinrun", "hard", TaskOptions(observe=("image",), levels=9))
    recipe = coins.recipe(1)
    assert recipe.id == "CoinrunHard-v0"
    assert dict(recipe.config) == {"start_level": 0, "num_levels": 9, "channel_first": False}
    assert coins.recipe(1) == recipe != coins.recipe(2)
    assert not coins.spec_extras.start_jitter


def test_procgen_by_hand():
    task = procgen.ProcgenTask("maze", "easy", TaskOptions(observe=("image",), image_size=32))
    picture = np.full((3, 64, 64, 3), 9, np.uint8)
    seen = {
        "obs": picture,
        "info.prev_level_complete": np.array([1, 0, 1]),
        "reward": np.array([10.0, 0, 0]),
        "done": np.array([True, True, False]),
        "elapsed": np.array([500, 500, 2]),
    }
    rows = task.read(seen, [0, 1, 2])
    assert rows["image"].shape == (3, 32, 32, 3)
    assert rows["terminated"].tolist() == rows["success"].tolist() == [True, False, False]
    assert rows["truncated"].tolist() == [False, True, False]


def test_names_of_meta_world():
    names = {metaworld_envpool.name_of(task) for task in TASKS}
    assert len(names) == 50
    assert {"MetaWorld/Reach-v3", "MetaWorld/PlateSlideBackSide-v3"} <= names
    mix = metaworld_envpool.MetaWorldTask("ml10-train-mix", "", STATE)
    assert len({mix.recipe(seed).id for seed in range(80)}) == 10
    hidden = metaworld_envpool.MetaWorldTask("reach", "", TaskOptions(goals="hidden"))
    assert dict(hidden.recipe(0).config)["partially_observable"] is True


def test_meta_world_by_hand():
    task = metaworld_envpool.MetaWorldTask("push", "", STATE)
    state = np.zeros((2, 39))
    state[:, :3] = [[0, 0.6865, 0.32375], [9, 9, 9]]
    seen = {
        "obs": state,
        "info.success": np.array([0.0, 1.0]),
        "reward": np.ones(2),
        "done": np.array([True, False]),
        "elapsed": np.array([500, 4]),
    }
    rows = task.read(seen, [4, 7])
    np.testing.assert_allclose(rows["log/position"], [[0.5] * 3, [1] * 3])
    assert rows["success"].tolist() == [False, True]
    assert rows["truncated"].tolist() == [True, False]
    assert not rows["terminated"].any()
    assert rows["log/moved"].tolist() == [[0], [0]]
    state[0, 4], state[1, 12] = 0.019, 0.021
    assert task.read(seen, [4, 7])["log/moved"].tolist() == [[0], [1]]
    state[1, 12] = 0
    assert task.read(seen, [4, 7])["log/moved"].tolist() == [[0], [1]], "once in an episode"


def test_the_control_tasks_are_those_of_the_other_suite():
    assert set(dm_control_envpool.SUITE.tasks) <= set(dm_control.TASKS)


def board(*rows: str) -> np.ndarray:
    signs = {"X": BLACK, "O": WHITE, ".": EMPTY}
    return np.array([[signs[sign] for sign in row] for row in rows])


def test_eyes_by_hand():
    position = board(
        ".X..X.",  # in a corner, and at the edge: no corner may be the other's
        "XX..XX",
        "...X..",
        "OXX.X.",  # inside one corner may be
        ".OXX..",
        "O.O.X.",
    )
    assert np.argwhere(eyes(position, BLACK)).tolist() == [[0, 0], [0, 5], [3, 3]]
    position[2, 2] = WHITE
    assert np.argwhere(eyes(position, BLACK)).tolist() == [[0, 0], [0, 5], [3, 3]]
    position[4, 4] = WHITE
    assert np.argwhere(eyes(position, BLACK)).tolist() == [[0, 0], [0, 5]]
    position[1, 4] = WHITE
    assert np.argwhere(eyes(position, BLACK)).tolist() == [[0, 0]]
    assert not eyes(position, WHITE).any()
    assert np.argwhere(eyes(board(".O.", "OOO", "..."), WHITE)).tolist() == [[0, 0], [0, 2]]


def test_replies_by_hand():
    position, random = board("X.X", ".XX", "OX."), np.random.default_rng(0)
    legal = np.zeros(10, bool)
    legal[[1, 3, 8, 9]] = True
    black = {reply(position, legal, BLACK, False, 1.0, random) for _ in range(60)}
    white = {reply(position, legal, WHITE, False, 1.0, random) for _ in range(60)}
    assert black == {3}, "1 and 8 are its eyes"
    assert white == {1, 3, 8}
    assert reply(position, legal, WHITE, True, 0.5, random) == 9, "ahead, and the other passed"
    assert reply(position, legal, BLACK, True, -0.5, random) == 3
    legal[3] = False
    assert reply(position, legal, BLACK, False, 1.0, random) == 9, "nothing else is sensible"
    assert (lead(BLACK, 45, 36), lead(WHITE, 45, 36)) == (1.5, -1.5)


class TwoPlayers:
    """A pool of one game: every point may be played, players take turns, three passes end it."""

    def __init__(self, id: str, seeds: list[int], config: Mapping[str, object]) -> None:
        (seed,) = seeds
        self.first, self.played = seed % 2, list[int]()

    def async_reset(self) -> None:
        self.played = []

    def send(self, actions: np.ndarray, places: np.ndarray) -> None:
        self.played += actions.tolist()

    def recv(self) -> tuple:
        over = np.array([self.played[-3:] == [go.PASS] * 3])
        points, legal = np.zeros((1, 9, 9), int), np.ones((1, 82), bool)
        for number, point in enumerate(self.played):
            if point != go.PASS:
                points.flat[point] = WHITE if number % 2 else BLACK
                legal[0, point] = False
        info = {
            "elapsed_step": np.array([len(self.played)]),
            "current_player": np.array([(self.first + len(self.played)) % 2]),
            "legal_action_mask": legal,
            "board": points,
            "black_area": np.zeros(1),
            "white_area": np.zeros(1),
            "consecutive_pass_count": np.array([self.played[-1:] == [go.PASS]], int).ravel(),
        }
        seen = np.zeros((2, 9, 9, 17), bool)
        seen[0, ..., 0] = points[0] == (WHITE if self.first else BLACK)
        return seen, np.array([-1.0, 1.0]) * over, over, ~over & False, info


def test_the_opponent_answers_and_begins_where_it_is_black(monkeypatch: pytest.MonkeyPatch):
    task, pools = go.GoTask("9x9", "", STATE), Pools(2, TwoPlayers)
    ids = iter([0, 1])
    monkeypatch.setattr(task, "recipe", lambda seed: Recipe("go", next(ids), alone=True))
    rows = task.start(pools, {0: 5, 1: 5})
    first, second = (place[0] for place in pools._places if place)
    assert (len(first.played), len(second.played)) == (0, 1)
    assert not rows["terminated"].any()
    rows = task.step(pools, [0, 1], np.array([40, second.played[0]]))
    assert first.played[0] == 40
    assert second.played[1] == go.PASS, "what is not legal is played as a pass"
    assert (len(first.played), len(second.played)) == (2, 3)
    assert rows["mask"].sum(1).tolist() == [80, 80]
    assert rows["state"].reshape(2, 17, 81)[0, 0].nonzero()[0].tolist() == [40]
    assert rows["reward"].tolist() == [0, 0]
    first.played = [go.PASS, go.PASS]
    pools._steps[0] = 2
    rows = task.step(pools, [0], np.array([go.PASS]))
    assert first.played == [go.PASS] * 3, "nobody answers once the game is over"
    assert rows["terminated"].tolist() == [True]
    assert (rows["reward"].tolist(), rows["success"].tolist()) == ([-1], [False])


def test_pac_man_needs_the_version_that_has_its_game(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jumanji, "missing", lambda task: "")
    for version, lacks in (("1.2.5", True), ("1.2.7", False), ("1.10.0rc1", False)):
        monkeypatch.setattr(jumanji, "version", lambda package, found=version: found)
        assert ("1.2.7 or later" in jumanji.lacking("pac_man")) == lacks
    assert jumanji.lacking("maze") == ""


def test_what_mujoco_draws_in_envpool_is_never_asked_for():
    """Its OpenGL ends the process that asks, where it does not fit the system's."""
    for task in (
        metaworld_envpool.MetaWorldTask("reach", "", STATE),
        dm_control_envpool.ControlTask("cheetah-run", "", STATE),
    ):
        assert not any("render" in name for name, _ in task.recipe(0).config)
        with pytest.raises(RuntimeError, match="draws no pictures"):
            task.frames(Pools(1), [0])
