"""Meta-World's 50 tasks and the splits of its benchmarks.

Source: Yu et al., Meta-World (CoRL 2019) and its package, version 3. Names leave out the package's
suffix `-v3`. In ML10 and ML45 the test tasks are other tasks than those of training, and so are
their goals; within one task, the goals of `:test-goals` differ from those of training (ML1).
"""

from typing import Literal

GoalSet = Literal["train-goals", "test-goals"]
GOAL_SETS: tuple[GoalSet, ...] = ("train-goals", "test-goals")
GOALS = 50  # per task and goal set, as in the benchmarks
GOALS_SEED = 42  # recorded: other goals would be another benchmark

TASKS = {
    "assembly": "pick up a nut and place it onto a peg",
    "basketball": "drop a ball through the hoop",
    "bin-picking": "pick a block from one bin and place it into the other",
    "box-close": "grasp the lid and close the box with it",
    "button-press-topdown": "press a button from the top",
    "button-press-topdown-wall": "press a button from the top, over a wall",
    "button-press": "press a button",
    "button-press-wall": "press a button behind a wall",
    "coffee-button": "push the button of the coffee machine",
    "coffee-pull": "pull a mug from the coffee machine",
    "coffee-push": "push a mug under the coffee machine",
    "dial-turn": "turn a dial by half a turn",
    "disassemble": "pull a nut off its peg",
    "door-close": "close a door with a revolving joint",
    "door-lock": "lock the door by turning the lock",
    "door-open": "open a door with a revolving joint",
    "door-unlock": "unlock the door by turning the lock",
    "hand-insert": "insert the gripper into a hole",
    "drawer-close": "push a drawer shut",
    "drawer-open": "pull a drawer open",
    "faucet-open": "turn a faucet counter-clockwise",
    "faucet-close": "turn a faucet clockwise",
    "hammer": "drive a nail with a hammer",
    "handle-press-side": "press a handle down, sideways",
    "handle-press": "press a handle down",
    "handle-pull-side": "pull a handle up, sideways",
    "handle-pull": "pull a handle up",
    "lever-pull": "pull a lever up by a quarter of a turn",
    "pick-place-wall": "carry a puck over a wall to a goal",
    "pick-out-of-hole": "pick a puck out of a hole",
    "pick-place": "carry a puck to a goal",
    "plate-slide": "slide a plate into a cabinet",
    "plate-slide-side": "slide a plate into a cabinet, sideways",
    "plate-slide-back": "slide a plate out of a cabinet",
    "plate-slide-back-side": "slide a plate out of a cabinet, sideways",
    "peg-insert-side": "insert a peg sideways into a hole",
    "peg-unplug-side": "unplug a peg sideways",
    "soccer": "push a ball into the goal",
    "stick-push": "grasp a stick and push a box with it",
    "stick-pull": "grasp a stick and pull a box with it",
    "push": "push a puck to a goal",
    "push-wall": "push a puck around a wall to a goal",
    "push-back": "pull a puck back to a goal",
    "reach": "reach a goal position",
    "reach-wall": "reach a goal position behind a wall",
    "shelf-place": "place a puck onto a shelf",
    "sweep-into": "sweep a puck into a hole",
    "sweep": "sweep a puck off the table",
    "window-open": "push a window open",
    "window-close": "push a window shut",
}

_ML10_TRAIN = (
    "reach",
    "push",
    "pick-place",
    "door-open",
    "drawer-close",
    "button-press-topdown",
    "peg-insert-side",
    "window-open",
    "sweep",
    "basketball",
)
_ML10_TEST = ("drawer-open", "door-close", "shelf-place", "sweep-into", "lever-pull")
_ML45_TEST = ("bin-picking", "box-close", "hand-insert", "door-lock", "door-unlock")
_MT10 = (
    "reach",
    "push",
    "pick-place",
    "door-open",
    "drawer-open",
    "drawer-close",
    "button-press-topdown",
    "peg-insert-side",
    "window-open",
    "window-close",
)

SPLITS: dict[str, tuple[str, ...]] = {
    "mt10": _MT10,
    "mt50": tuple(TASKS),
    "ml10-train": _ML10_TRAIN,
    "ml10-test": _ML10_TEST,
    "ml45-train": tuple(task for task in TASKS if task not in _ML45_TEST),
    "ml45-test": _ML45_TEST,
}

# A mix is one task whose episodes draw one of a split's tasks: what an agent explores in.
MIXES = {f"{split}-mix": tasks for split, tasks in SPLITS.items() if not split.endswith("-test")}
