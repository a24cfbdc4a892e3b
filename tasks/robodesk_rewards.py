"""RoboDesk's 18 tasks, and their rewards as published (`stock`) or as meant (`corrected`).

RoboDesk 1.0.0 remembers the "original" positions of its blocks as live views of the simulator's
memory, so that everything that compares with them is constant: lifting the ball by 0.15 m moves
the dense reward of lift_ball from 0.083 to 0.093, and pushing a block off the table counts as a
success whatever happens to the others. With copies of the positions the same formulas give what
was meant (0.079 to 0.928).
"""

from typing import Any, Literal

Kind = Literal["dense", "sparse", "success"]
KINDS: tuple[Kind, ...] = ("dense", "sparse", "success")
BLOCKS = ("ball", "upright_block", "flat_block")

README_TASKS = {
    "open_slide": "slide the shelf's door to the right",
    "open_drawer": "pull the drawer open",
    "push_green": "press the green button, which lights the green light",
    "stack": "put the upright block onto the flat block",
    "upright_block_off_table": "push the upright block off the table, and nothing else",
    "flat_block_in_bin": "drop the flat block into the bin",
    "flat_block_in_shelf": "put the flat block into the shelf",
    "lift_upright_block": "lift the upright block",
    "lift_ball": "lift the ball",
}
EXTRA_TASKS = {
    "push_blue": "press the blue button, which lights the blue light",
    "push_red": "press the red button, which lights the red light",
    "flat_block_off_table": "push the flat block off the table, and nothing else",
    "ball_off_table": "push the ball off the table, and nothing else",
    "upright_block_in_bin": "drop the upright block into the bin",
    "ball_in_bin": "drop the ball into the bin",
    "upright_block_in_shelf": "put the upright block into the shelf",
    "ball_in_shelf": "put the ball into the shelf",
    "lift_flat_block": "lift the flat block",
}
TASKS = README_TASKS | EXTRA_TASKS


def remember_positions(desk: Any, rewards: Literal["corrected", "stock"]) -> None:
    """After a reset of `desk` (robodesk.RoboDesk), replace the live views unless stock is asked."""
    if rewards == "corrected":
        desk.original_pos = {name: desk.original_pos[name].copy() for name in BLOCKS}


def dense(desk: Any, task: str) -> float:
    """The shaped reward of `task` in the present state of `desk`, in [0, 1]."""
    return float(desk._get_task_reward(task, "dense_reward"))


def success(desk: Any, task: str) -> bool:
    """Whether `task` is done in the present state of `desk`."""
    return bool(desk._get_task_reward(task, "success"))
