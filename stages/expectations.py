"""What was expected of an episode when it began, against what came of it: value overestimation.

    expected_return    what who acted expected at the first observation: the critic's value, or the
                       plan's (the weighed return of its elites, the root of its search tree)
    discounted_return  the rewards that came, discounted as the critic's are

Both are in the unit of the task's rewards. A value knows no time limit: of an episode that one cut
short after T steps, it counts on what would have come later, too, a share of discount^T.
"""

from collections.abc import Mapping

import numpy as np


class Expectations:
    """Of the present episode of each of `number` environments."""

    def __init__(self, number: int, discount: float):
        self.discount = discount
        self.expected, self.came, self.weight = (np.zeros(number) for _ in range(3))

    def begin(self, first: np.ndarray, expected: np.ndarray) -> None:
        """Episodes begin where `first` [N] holds, of which as much is `expected` [N]."""
        self.expected = np.where(first, expected, self.expected)
        self.came = np.where(first, 0.0, self.came)
        self.weight = np.where(first, 1.0, self.weight)

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """A step has led to `rows`."""
        self.came = self.came + self.weight * rows["reward"]
        self.weight = self.weight * self.discount

    def of(self, index: int) -> dict[str, float]:
        """What belongs in the record of an environment's episode."""
        return {
            "expected_return": float(self.expected[index]),
            "discounted_return": float(self.came[index]),
        }
