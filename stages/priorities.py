"""Prioritised replay: sequences whose values were foretold worst are drawn most.

The priority p of a sequence is the mean absolute error of the values of its roots when it was last
learnt from. A sequence that never was counts as much as the worst of those that were. Of the N that
may be drawn

    chance    P_i = p_i^a / sum_k p_k^a     a = `replay.priority`
    weight    w_i = (1 / (N P_i))^b         b = `replay.importance`

(arXiv 1911.08265, appendix G; arXiv 1511.05952). Losses are multiplied by the weights, so that with
b = 1 a batch stands for all N on average, however it was drawn. The paper's error is that of the
search's value; here it is that of the learnt value, which agents without search have, too.

Errors come back late: all batches of a call are drawn before its first update, and learnt from
when the call is done. With `training.overlap` the next call's batches are drawn meanwhile, so they
know of the errors before the last ones only.

There is no tree of sums: one cumulative sum serves all sequences of a call (benchmarks/replay.py).
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.settings import ReplaySettings

UNKNOWN = np.float32(np.inf)  # the error of what was never learnt from
LEAST = 1e-3  # smaller errors count as this, so that nothing is out of reach or weighs too much


class Drawn(NamedTuple):
    """Sequences [...]: their streams, the rows that they begin at, and what they are to weigh."""

    stream: np.ndarray
    start: np.ndarray
    weight: np.ndarray


class Priorities:
    """Errors of all sequences held, by stream and by the row that they begin at."""

    def __init__(self, streams: int, settings: ReplaySettings):
        self.exponent, self.importance = settings.priority, settings.importance
        self._first = [0] * streams  # the row that the first error of a stream belongs to
        self._errors = [np.zeros(0, np.float32) for _ in range(streams)]

    def draw(
        self,
        rng: np.random.Generator,
        number: int,
        first: Sequence[int],
        allowed: Sequence[np.ndarray],
    ) -> Drawn:
        """`number` sequences.

        Args:
            first: of every stream, the first row held.
            allowed: of every stream, whether a sequence may begin at that row and at each after it.

        Raises:
            ValueError: none may.
        """
        self._follow(first, [len(rows) for rows in allowed])
        may, errors = np.concatenate(allowed), np.concatenate(self._errors)
        known = errors[may & np.isfinite(errors)]
        worst = max(known.max(initial=0.0), LEAST)
        errors = np.where(np.isfinite(errors), np.maximum(errors, LEAST), worst)
        mass = may * errors.astype(np.float64) ** self.exponent
        ends = np.cumsum(mass)
        if not len(ends) or ends[-1] == 0:
            raise ValueError("replay holds no sequence that may be drawn")
        found = np.searchsorted(ends, rng.random(number) * ends[-1], side="right")
        found = np.minimum(found, np.flatnonzero(may)[-1])  # where rounding went beyond the end
        weight = (may.sum() * mass[found] / ends[-1]) ** -self.importance
        offsets = np.cumsum([0, *(len(rows) for rows in allowed)])
        stream = np.searchsorted(offsets, found, side="right") - 1
        start = found - offsets[stream] + np.asarray(first)[stream]
        return Drawn(stream, start, weight.astype(np.float32))

    def learnt(self, drawn: Drawn, errors: np.ndarray) -> None:
        """Keep the errors of sequences that were learnt from, the last where one was drawn twice;
        those that have gone meanwhile are forgotten."""
        for stream, (first, kept) in enumerate(zip(self._first, self._errors, strict=True)):
            ours = (drawn.stream == stream) & (drawn.start >= first)
            kept[drawn.start[ours] - first] = errors[ours]

    def state(self) -> list[dict[str, Any]]:
        """What a checkpoint keeps, as JSON can hold it, every bit kept."""
        return [
            {"first": first, "errors": base64.b64encode(errors.astype("<f4").tobytes()).decode()}
            for first, errors in zip(self._first, self._errors, strict=True)
        ]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Go back to a state."""
        self._first = [row["first"] for row in state]
        self._errors = [
            np.frombuffer(base64.b64decode(row["errors"]), "<f4").astype(np.float32)
            for row in state
        ]

    def _follow(self, first: Sequence[int], counts: Sequence[int]) -> None:
        """Forget rows that are gone and begin with those that came."""
        for stream, (begin, count) in enumerate(zip(first, counts, strict=True)):
            held = self._errors[stream][begin - self._first[stream] :]
            fresh = np.full(max(count - len(held), 0), UNKNOWN)
            self._first[stream] = begin
            self._errors[stream] = np.concatenate([held, fresh])
