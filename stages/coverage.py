"""Coverage: the share of a grid over the effector's (or player's) places that was visited."""

import numpy as np

CELLS = 20  # per dimension in the plane, fewer in space


class Coverage:
    """Counts visited cells of `log/position`, which lies in [0, 1]^k."""

    def __init__(self, dimensions: int):
        self.cells = CELLS if dimensions <= 2 else 10
        self.dimensions = dimensions
        self.visited: set[int] = set()

    def add(self, positions: np.ndarray) -> None:
        """Mark the cells of positions [N, k]."""
        index = np.clip((positions * self.cells).astype(int), 0, self.cells - 1)
        weights = self.cells ** np.arange(self.dimensions)
        self.visited.update((index @ weights).tolist())

    def share(self) -> float:
        """Visited cells over all cells."""
        return len(self.visited) / self.cells**self.dimensions
