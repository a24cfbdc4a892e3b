"""What all tasks of Meta-World share: the parts of their states, lengths and rates.

Source: metaworld 3.0.0. A state has 39 numbers: hand, gripper and two objects now (18), the same
one step before (18), and the goal (3).
"""

import numpy as np

STATE_SIZE = 39
EPISODE_LENGTH = 500
ACTIONS = 4
CONTROL_HZ = 80.0
OBJECT = "object"
MOVED = 0.02  # m from where the object was at the reset
WORKSPACE = np.array([[-0.525, 0.348, -0.0525], [0.525, 1.025, 0.7]])  # the package's hand space


def position(state: np.ndarray) -> np.ndarray:
    """The hand in its space: float32 [..., 3] in [0, 1]."""
    low, high = WORKSPACE
    return np.clip((state[..., :3] - low) / (high - low), 0, 1).astype(np.float32)


def objects(state: np.ndarray) -> np.ndarray:
    """Places of the first and the second object (zeros where there is none): [..., 2, 3], m."""
    return np.stack([state[..., 4:7], state[..., 11:14]], axis=-2)
