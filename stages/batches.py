"""Batches for one call of the training step, from a job's own replay and from the exploration's."""

from dataclasses import dataclass

import numpy as np

from stages.replay import Replay
from stages.settings import TrainingSettings
from tasks.contract import MASK


@dataclass(frozen=True)
class Batches:
    """Draws what one call learns from: a function of (seed, number of the update) and the replays.

    Args:
        rehearsal: the exploration's replay, from which a `share` of each batch is drawn.
        known: whether its rewards are the task's; else they are not learnt.
    """

    training: TrainingSettings
    seed: int
    rehearsal: Replay | None = None
    share: float = 0.0
    known: bool = False

    def draw(self, own: Replay, number: int) -> dict[str, np.ndarray]:
        """Arrays [updates, B, T, ...] for the call that begins at update `number`."""
        rng = np.random.default_rng([self.seed, 1, number])
        size, length = self.training.batch_size, self.training.batch_length
        shared = 0 if self.rehearsal is None else round(size * self.share)
        parts = []
        for replay, rows, known in (
            (own, size - shared, True),
            (self.rehearsal, shared, self.known),
        ):
            if replay is None or rows == 0:
                continue
            shape = (self.training.updates_per_call, rows)
            part = replay.sample(rng, shape, length)
            part["reward_known"] = np.full((*shape, length), known, np.float32)
            parts.append(part)
        batches = parts[0]
        if len(parts) > 1:
            if MASK in batches and MASK not in parts[1]:  # of an exploration without masks
                parts[1][MASK] = np.ones(parts[1]["action"].shape, bool)
            batches = {k: np.concatenate([part[k] for part in parts], 1) for k in batches}
        del batches["is_last"]  # kept on disk, of no use to a loss
        return batches
