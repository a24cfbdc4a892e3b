"""Scripted policies for the desk: the reference that says what a good return is.

Each is a function of the simulation's present state alone. It picks the next waypoint of the
fingertip; closed-form inverse kinematics and a proportional law turn that into joint speeds.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from tasks.desk_geometry import (
    BUTTON,
    LINK,
    OPEN,
    PRESSED,
    SPEED,
    Point,
    handle_position,
    puck_position,
    tip_position,
)

if TYPE_CHECKING:
    from tasks.desk import Desk

GAIN = 10.0  # rad/s per rad
REACH = (0.10, 0.495)  # m from the base, where inverse kinematics is well behaved
SHOULDER_LIMIT, ELBOW_LIMIT = 2.6, 2.78
TOUCH_PUCK, TOUCH_BUTTON, TOUCH_HANDLE = 0.075, 0.05, 0.044  # sums of radii, m
SIDESTEP, PASS = 0.13, 0.15  # m, wide enough to get round the puck, and past the handle
STRIDE = 0.6  # rad, between waypoints about the puck


def act(env: "Desk") -> np.ndarray:
    """The action [2] for the environment's present state; zero in `free`."""
    shoulder, elbow, x, y, drawer, _ = env.data.qpos.tolist()
    tip = tip_position(shoulder, elbow)
    match env.goal.part:
        case "tip":
            waypoint = (env.goal.target[0], env.goal.target[1])
        case "puck":
            goal = (env.goal.target[0], env.goal.target[1])
            waypoint = _push(tip, puck_position(x, y), goal)
        case "drawer":
            waypoint = _pull(tip, handle_position(drawer), handle_position(OPEN)[0])
        case "button":
            waypoint = _press(tip, BUTTON, PRESSED)
        case _:
            return np.zeros(2, np.float32)
    return _towards(waypoint, shoulder, elbow)


def _push(tip: Point, puck: Point, goal: Point) -> Point:
    """Go behind the puck, seen from the goal, then push; ease off near the goal."""
    distance = math.dist(puck, goal)
    if distance < 0.01:
        return tip
    ahead = ((goal[0] - puck[0]) / distance, (goal[1] - puck[1]) / distance)
    offset = (tip[0] - puck[0], tip[1] - puck[1])
    along = offset[0] * ahead[0] + offset[1] * ahead[1]
    aside = offset[1] * ahead[0] - offset[0] * ahead[1]
    if along < -0.05 and abs(aside) < 0.03:
        return _on_ray(puck, ahead, min(0.6 * distance, 0.06) - TOUCH_PUCK)
    if along < -TOUCH_PUCK:
        return _on_ray(puck, ahead, -0.10)
    return _around(tip, puck, math.atan2(-ahead[1], -ahead[0]))


def _around(tip: Point, puck: Point, angle: float) -> Point:
    """Next point of a ring about the puck on the way to `angle`: the shorter way, if reachable."""
    here = math.atan2(tip[1] - puck[1], tip[0] - puck[0])
    short = math.remainder(angle - here, math.tau)
    for way in (short, short - math.copysign(math.tau, short)):
        count = max(1, math.ceil(abs(way) / STRIDE))
        ring = [_ring(puck, here + way * step / count) for step in range(1, count + 1)]
        if all(map(_reachable, ring)):
            return ring[0]
    return _ring(puck, angle)


def _pull(tip: Point, handle: Point, open_x: float) -> Point:
    """Round the handle's end, get behind it, and pull it to `open_x`."""
    behind = tip[0] < handle[0] - 0.03
    if behind and abs(tip[1] - handle[1]) < 0.06:
        return (open_x - TOUCH_HANDLE + 0.005, handle[1])
    if behind:
        return (handle[0] - 0.06, handle[1])
    if tip[1] < handle[1] - 0.10:  # clear of it on the near side; the far side is out of reach
        return (handle[0] - 0.07, handle[1] - PASS)
    return (handle[0] + 0.12, handle[1] - PASS)


def _press(tip: Point, button: Point, depth: float) -> Point:
    """Come before the button, then push beyond its end, so that the spring is held."""
    if tip[0] < button[0] + 0.04:  # level with it or behind: leave by the near side
        if abs(tip[1] - button[1]) > 0.03:
            return (button[0] + 0.10, button[1] + SIDESTEP)
    elif abs(tip[1] - button[1]) > 0.04:
        return (button[0] + 0.10, button[1])
    return (button[0] + TOUCH_BUTTON - depth - 0.02, button[1])


def _towards(point: Point, shoulder: float, elbow: float) -> np.ndarray:
    """Joint speeds / SPEED that bring the tip to `point`, in a straight line of joint space."""
    goal = _joints(point, 1.0 if elbow >= 0 else -1.0)
    speeds = np.array([GAIN * (goal[0] - shoulder), GAIN * (goal[1] - elbow)]) / SPEED
    return (speeds / max(1.0, float(np.abs(speeds).max()))).astype(np.float32)


def _joints(point: Point, bend: float) -> Point:
    """Inverse kinematics with the elbow bent as it is, or the other way if limits ask for it."""
    for sign in (bend, -bend):
        radius = min(max(math.hypot(*point), REACH[0]), REACH[1])
        elbow = sign * 2 * math.acos(radius / (2 * LINK))
        shoulder = math.remainder(math.atan2(point[1], point[0]) - elbow / 2, math.tau)
        if abs(shoulder) < SHOULDER_LIMIT and abs(elbow) < ELBOW_LIMIT:
            return shoulder, elbow
    raise ValueError(f"no joint angles bring the fingertip to {point}")


def _ring(puck: Point, angle: float) -> Point:
    return _on_ray(puck, (math.cos(angle), math.sin(angle)), SIDESTEP)


def _on_ray(start: Point, direction: Point, distance: float) -> Point:
    return (start[0] + direction[0] * distance, start[1] + direction[1] * distance)


def _reachable(point: Point) -> bool:
    return REACH[0] < math.hypot(*point) < REACH[1]
