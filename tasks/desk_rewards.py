"""What the desk's tasks ask for, and what they pay for joint positions, simulated or recorded.

`sparse` rewards are exp(-(d / scale)^2) of the distance d to the goal, near zero at the start;
`dense` ones add a wide term, and one for bringing the tip to the object.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.desk_geometry import (
    OPEN,
    PRESSED,
    Point,
    button_position,
    handle_position,
    puck_position,
    tip_position,
)
from tasks.desk_state import qpos_of

WEIGHTS = {
    "sparse": 0.5,  # the goal itself
    "wide": 0.35,  # a slope that is felt from the start
    "approach": 0.15,  # the tip comes to the object
}
APPROACH = 0.25  # m


@dataclass(frozen=True)
class Goal:
    """What a task asks for: `part` is to be at `target`, within about `scale` metres."""

    description: str
    part: str  # tip | puck | drawer | button | nothing
    target: tuple[float, ...] = ()
    scale: float = 0.08  # of the sparse reward
    wide: float = 0.3  # of the dense one


GOALS = {
    "free": Goal("no reward: for exploration", "nothing"),
    "reach": Goal("bring the fingertip to a fixed place", "tip", (0.10, 0.36)),
    "push_left": Goal("push the puck to the left", "puck", (0.22, 0.26)),
    "push_right": Goal("push the puck to the right", "puck", (0.22, -0.26)),
    "open_drawer": Goal("pull the drawer open by its handle", "drawer", (OPEN,), 0.06, 0.2),
    "press_button": Goal("press the button and hold it", "button", (PRESSED,), 0.012, 0.03),
}


def reward_of(goal: Goal, qpos: Sequence[float], *, dense: bool) -> tuple[float, float]:
    """The sparse reward of joint positions [6], and the one that the variant pays."""
    if goal.part == "nothing":
        return 0.0, 0.0
    tip = tip_position(qpos[0], qpos[1])
    place, distance = _distance(goal, tip, qpos)
    sparse = _bell(distance, goal.scale)
    if not dense:
        return sparse, sparse
    near = 1.0 if goal.part == "tip" else _bell(math.dist(tip, place), APPROACH)
    terms = {"sparse": sparse, "wide": _bell(distance, goal.wide), "approach": near}
    return sparse, sum(WEIGHTS[name] * term for name, term in terms.items())


def relabel(goal: Goal, rows: Mapping[str, np.ndarray], *, dense: bool) -> np.ndarray:
    """What a task pays for recorded rows: float32 [N]. A reset pays nothing.

    Args:
        rows: `state` [N, 15] and `is_first` [N].
    """
    paid = [reward_of(goal, qpos_of(state), dense=dense)[1] for state in rows["state"]]
    return np.where(rows["is_first"], 0.0, paid).astype(np.float32)


def _distance(goal: Goal, tip: Point, qpos: Sequence[float]) -> tuple[Point, float]:
    """Where the goal's part is in the plane, and how far it is from the goal, m."""
    target = goal.target
    match goal.part:
        case "tip":
            return tip, math.dist(tip, target)
        case "puck":
            puck = puck_position(qpos[2], qpos[3])
            return puck, math.dist(puck, target)
        case "drawer":
            return handle_position(qpos[4]), target[0] - qpos[4]
        case _:
            return button_position(qpos[5]), target[0] - qpos[5]


def _bell(distance: float, scale: float) -> float:
    return math.exp(-((distance / scale) ** 2))
