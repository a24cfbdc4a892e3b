"""Where things are on the desk: what `assets/desk.xml` says, for those who compute with it."""

import math

Point = tuple[float, float]  # m; the arm's base is the origin, x points ahead, y to the left

LINK = 0.25  # m, both links
SPEED = 2.5  # rad/s at action 1
PUCK_MIDDLE: Point = (0.275, 0.0)
HANDLE: Point = (-0.30, 0.28)  # of the closed drawer, which opens along x
BUTTON: Point = (-0.30, -0.28)  # not pressed; it is pressed against x
OPEN, PRESSED = 0.2, 0.03  # m, the ends of their ranges


def tip_position(shoulder: float, elbow: float) -> Point:
    """Where the fingertip is, for joint angles in radians."""
    both = shoulder + elbow
    return (
        LINK * (math.cos(shoulder) + math.cos(both)),
        LINK * (math.sin(shoulder) + math.sin(both)),
    )


def puck_position(x: float, y: float) -> Point:
    """Where the puck is, for its two joints."""
    return x + PUCK_MIDDLE[0], y + PUCK_MIDDLE[1]


def handle_position(opening: float) -> Point:
    """Where the drawer's handle is, for its joint."""
    return HANDLE[0] + opening, HANDLE[1]


def button_position(depth: float) -> Point:
    """Where the button's cap is, for its joint."""
    return BUTTON[0] - depth, BUTTON[1]
