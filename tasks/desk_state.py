"""The desk's state vector, float32 [15], scaled to order one:

0:4    cosines, then sines of shoulder and elbow
4:6    joint speeds / 2.5 rad/s
6:8    3 x fingertip position (m, base at the origin)
8:10   5 x puck position about the middle of its range
10:12  3 x puck velocity (m/s)
12:14  drawer: 10 x (opening - 0.1 m), 3 x speed
14     button: 2 x pressed share - 1
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tasks.desk_geometry import OPEN, PRESSED, SPEED, puck_position, tip_position

STATE = 15


def state_of(qpos: Sequence[float], qvel: Sequence[float]) -> np.ndarray:
    """The state vector of joint positions [6] (rad, m) and speeds [6] (rad/s, m/s)."""
    shoulder, elbow, x, y, drawer, button = qpos
    tip_x, tip_y = tip_position(shoulder, elbow)
    return np.array(
        (
            math.cos(shoulder),
            math.cos(elbow),
            math.sin(shoulder),
            math.sin(elbow),
            qvel[0] / SPEED,
            qvel[1] / SPEED,
            3 * tip_x,
            3 * tip_y,
            5 * x,
            5 * y,
            3 * qvel[2],
            3 * qvel[3],
            10 * (drawer - OPEN / 2),
            3 * qvel[4],
            2 * button / PRESSED - 1,
        ),
        np.float32,
    )


def qpos_of(state: np.ndarray) -> list[float]:
    """The joint positions [6] (rad, m) that a state vector tells of."""
    cos_shoulder, cos_elbow, sin_shoulder, sin_elbow = state[:4].tolist()
    return [
        math.atan2(sin_shoulder, cos_shoulder),
        math.atan2(sin_elbow, cos_elbow),
        float(state[8]) / 5,
        float(state[9]) / 5,
        float(state[12]) / 10 + OPEN / 2,
        (float(state[14]) + 1) / 2 * PRESSED,
    ]


def places(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Where tip and puck are in the plane, and how far drawer and button are moved: [N, k] in m.

    Args:
        rows: `state` [N, 15]; predicted ones will do.
    """
    qpos = np.array([qpos_of(state) for state in rows["state"]])
    tips = [tip_position(shoulder, elbow) for shoulder, elbow in qpos[:, :2].tolist()]
    pucks = [puck_position(x, y) for x, y in qpos[:, 2:4].tolist()]
    return {
        "tip": np.array(tips),
        "puck": np.array(pucks),
        "drawer": qpos[:, 4:5],
        "button": qpos[:, 5:6],
    }
