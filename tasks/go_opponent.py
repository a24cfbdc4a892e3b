"""A weak player of Go to play against: any sensible move, by chance.

It plays a legal point at random that is not an eye of its own, and passes where there is none: the
usual way to play a game of Go out. It also passes when the other has passed and it is ahead, which
ends the game. Filling eyes would kill its own groups, so that no game came to an end.
"""

import numpy as np

BLACK, WHITE, EMPTY = 1, -1, 0  # on the board
KOMI = 7.5  # points that white is given


def reply(
    board: np.ndarray,
    legal: np.ndarray,
    colour: int,
    passed: bool,
    lead: float,
    random: np.random.Generator,
) -> int:
    """A move: a point, row by row, or the number of points, which is to pass.

    Args:
        board: [S, S] of `BLACK`, `WHITE`, `EMPTY`.
        legal: bool [S * S + 1].
        colour: whose turn it is.
        passed: whether the other has just passed.
        lead: points by which `colour` is ahead.
    """
    stop = board.size
    if passed and lead > 0:
        return stop
    sensible = legal[:stop] & ~eyes(board, colour).ravel()
    points = np.flatnonzero(sensible)
    return int(random.choice(points)) if len(points) else stop


def eyes(board: np.ndarray, colour: int) -> np.ndarray:
    """Which empty points are eyes of a colour: bool [S, S].

    Its stones, or the edge, are on all four sides, and of the four corners the other colour has at
    most one, or none where one of the corners is off the board.
    """
    own = np.pad(board == colour, 1, constant_values=True)
    other = np.pad(board == -colour, 1).astype(int)
    outside = np.pad(np.zeros(board.shape, bool), 1, constant_values=True)
    middle = slice(1, -1)
    before, after = slice(None, -2), slice(2, None)
    sides = own[before, middle] & own[after, middle] & own[middle, before] & own[middle, after]
    corners = [(row, column) for row in (before, after) for column in (before, after)]
    taken = sum(other[corner] for corner in corners)
    edge = np.logical_or.reduce([outside[corner] for corner in corners])
    return (board == EMPTY) & sides & (taken + edge < 2)


def lead(colour: int, black: float, white: float) -> float:
    """Points by which a colour is ahead, by the areas of both."""
    return (black - white - KOMI) * colour
