"""RoboDesk's simulator: the package's steps bit by bit in half the time, seeded resets, true state.

Against robodesk 1.0.0: resets draw from a seed of their own instead of NumPy's global generator,
nothing is rendered unless asked for, `qpos_objects` holds positions (the package returns
velocities), the end effector's position is a copy, and inverse kinematics leave out the collision
detection that they do not need.
"""

import importlib
from typing import Any, Literal

import numpy as np

from tasks import robodesk_rewards
from tasks.gym_shim import import_with_gymnasium

mujoco: Any = importlib.import_module("mujoco")  # Any: its functions are compiled
robodesk: Any = import_with_gymnasium("robodesk.robodesk")

ROBOT = 9  # joints of arm and gripper
SUBSTEPS = 10  # of 2 ms
ARM = np.arange(6)  # the joints that inverse kinematics may use
OBJECTS = (
    "drawer",
    "slide",
    "red_button",
    "green_button",
    "blue_button",
    *robodesk_rewards.BLOCKS,
)
STATE_SIZES = {
    "qpos_robot": 9,
    "qvel_robot": 9,
    "end_effector": 3,
    "qpos_objects": 29,  # drawer, slide, 3 buttons, 3 lights, 3 free bodies of 7
    "qvel_objects": 26,
}
STATE_SIZE = sum(STATE_SIZES.values())  # 76
MOVED = 0.02  # m from where it was at the reset
PRESSED = -0.00453  # m, the package's own threshold for a light
# where the gripper goes: over the desk, into its bin, shelf and drawer (m)
WORKSPACE = np.array([[-0.7, 0.2, 0.3], [0.7, 1.1, 1.3]])


class Simulator(robodesk.RoboDesk):
    """One desk. Any of the 18 rewards can be asked of it at any time."""

    def __init__(self, rewards: Literal["corrected", "stock"]):
        super().__init__(task="open_slide", reward="dense")
        self._rewards: Literal["corrected", "stock"] = rewards
        self.model = self.physics.model.ptr
        self.data = self.physics.data.ptr
        self._ik_data = self.physics_copy.data.ptr
        self._site = self.model.site("end_effector").id
        self._joints = [self.model.joint(f"{name}_joint").qposadr[0] for name in OBJECTS[:2]]
        self._lights = [
            self.model.joint(name.replace("button", "light")).qposadr[0] for name in OBJECTS[2:5]
        ]
        self._bodies = [self.model.body(name).id for name in robodesk_rewards.BLOCKS]
        self._jacobian = np.empty((3, self.model.nv))

    def start(self, seed: int) -> None:
        """Reset as the package does after `numpy.random.seed(seed)`; global state is untouched."""
        before = np.random.get_state()  # noqa: NPY002
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            self.reset()
        finally:
            np.random.set_state(before)  # noqa: NPY002
        robodesk_rewards.remember_positions(self, self._rewards)
        self._first_joints = self.data.qpos[self._joints].copy()
        self._first_bodies = self.data.xpos[self._bodies].copy()
        self._moved = np.zeros(len(OBJECTS), np.float32)

    def advance(self, action: np.ndarray) -> None:
        """One control step of 20 ms.

        Args:
            action: [5] in [-1, 1]: end effector (x, y, z) by 1 cm, wrist, gripper.

        Raises:
            dm_control.rl.control.PhysicsError: the simulation became unstable.
        """
        target = self._convert_action(action)
        data = self.data
        with self.physics.check_invalid_state():
            for _ in range(SUBSTEPS):
                data.ctrl[:ROBOT] = target[:ROBOT]
                # gravity compensation, as the package has it
                data.qfrc_applied[:ROBOT] = data.qfrc_bias[:ROBOT]
                mujoco.mj_step2(self.model, data)
                mujoco.mj_step1(self.model, data)
        self._ik_data.qpos[:] = data.qpos
        self._note_movement()

    def state(self) -> np.ndarray:
        """All positions and velocities, float32 [76], laid out as `STATE_SIZES`."""
        data = self.data
        parts = (
            data.qpos[:ROBOT],
            data.qvel[:ROBOT],
            data.site_xpos[self._site],
            data.qpos[ROBOT:],
            data.qvel[ROBOT:],
        )
        return np.concatenate(parts, dtype=np.float32, casting="same_kind")

    def position(self) -> np.ndarray:
        """The end effector in the workspace: float32 [3] in [0, 1]."""
        low, high = WORKSPACE
        share = (self.data.site_xpos[self._site] - low) / (high - low)
        return np.clip(share, 0, 1).astype(np.float32)

    def moved(self) -> np.ndarray:
        """For each of `OBJECTS` 1 if it moved in this episode: float32 [8]."""
        return self._moved.copy()

    def _note_movement(self) -> None:
        data = self.data
        slid = np.abs(data.qpos[self._joints] - self._first_joints) > MOVED
        pressed = data.qpos[self._lights] < PRESSED
        carried = ((data.xpos[self._bodies] - self._first_bodies) ** 2).sum(1) > MOVED**2
        np.maximum(self._moved, np.concatenate([slid, pressed, carried]), out=self._moved)

    def _ik(self, pos: np.ndarray) -> np.ndarray:
        """Joint positions that put the end effector at `pos`.

        dm_control's `qpos_from_site_pose` step for step, without the collision detection that it
        repeats in each of its iterations. Damped least squares far away, plain ones near.
        """
        model, data = self.model, self._ik_data
        site, update = data.site_xpos[self._site], np.zeros(model.nv)
        self._forward_kinematics()
        for _ in range(100):
            error = pos - site
            distance = np.linalg.norm(error)
            if distance < 1e-14:
                break
            mujoco.mj_jacSite(model, data, self._jacobian, None, self._site)
            step = _least_squares_step(self._jacobian[:, ARM], error, bool(distance > 0.1))
            length = np.linalg.norm(step)
            if distance / length > 20.0:  # too little progress
                break
            if length > 2.0:
                step *= 2.0 / length
            update[ARM] = step
            mujoco.mj_integratePos(model, data.qpos, update, 1)
            self._forward_kinematics()
        return data.qpos

    def _forward_kinematics(self) -> None:
        mujoco.mj_kinematics(self.model, self._ik_data)
        mujoco.mj_comPos(self.model, self._ik_data)

    def _get_obs(self) -> None:
        """The package's observation renders a picture; ask for `state` or a frame instead."""


def _least_squares_step(jacobian: np.ndarray, error: np.ndarray, damped: bool) -> np.ndarray:
    hessian = jacobian.T.dot(jacobian)
    gradient = jacobian.T.dot(error)
    if damped:
        return np.linalg.solve(hessian + np.eye(len(hessian)) * 3e-2, gradient)
    return np.linalg.lstsq(hessian, gradient, rcond=-1)[0]
