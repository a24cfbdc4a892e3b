"""Batches for one call of the training step, from a job's own replay and from the exploration's."""

from dataclasses import dataclass

import numpy as np

from stages.priorities import Drawn
from stages.replay import Replay
from stages.settings import TrainingSettings
from tasks.contract import MASK


@dataclass(frozen=True)
class Batches:
    """Draws what one call learns from: a function of (seed, number of the update) and the replays.

    Args:
        rehearsal: the exploration's replay, from which a `share` of each batch is drawn, all of it
            alike.
        known: whether its rewards are the task's; else they are not learnt.
    """

    training: TrainingSettings
    seed: int
    rehearsal: Replay | None = None
    share: float = 0.0
    known: bool = False

    def draw(self, own: Replay, number: int) -> tuple[dict[str, np.ndarray], Drawn | None]:
        """Arrays [updates, B, T, ...] for the call that begins at update `number`.

        Where the own replay has priorities, also `weight` [updates, B] of the losses, and which
        sequences the first of each batch are.
        """
        rng = np.random.default_rng([self.seed, 1, number])
        updates, length = self.training.updates_per_call, self.training.batch_length
        shared = 0 if self.rehearsal is None else round(self.training.batch_size * self.share)
        mine, others = (updates, self.training.batch_size - shared), (updates, shared)
        parts, drawn = [], None
        if mine[1]:
            if own.priorities is None:
                part = own.sample(rng, mine, length)
            else:
                part, drawn = own.sample_by_priority(rng, mine, length)
                part["weight"] = drawn.weight
            part["reward_known"] = np.ones((*mine, length), np.float32)
            parts.append(part)
        if self.rehearsal is not None and shared:
            part = self.rehearsal.sample(rng, others, length)
            part["reward_known"] = np.full((*others, length), self.known, np.float32)
            if drawn is not None:
                part["weight"] = np.ones(others, np.float32)
            parts.append(part)
        batches = parts[0]
        if len(parts) > 1:
            if MASK in batches and MASK not in parts[1]:  # of an exploration without masks
                parts[1][MASK] = np.ones(parts[1]["action"].shape, bool)
            batches = {k: np.concatenate([part[k] for part in parts], 1) for k in batches}
        del batches["is_last"]  # kept on disk, of no use to a loss
        return batches, drawn
