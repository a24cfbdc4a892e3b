"""Episode records: summing up rows of a batch into return, success, length and what happened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.contract import TaskSpec


@dataclass
class Tally:
    """Running sums of one environment's present episode."""

    value: float = 0.0
    success: bool = False
    length: int = 0


@dataclass
class EpisodeCounter:
    """Turns rows into finished episodes. Its state is plain data, kept by checkpoints."""

    spec: TaskSpec
    number: int
    tallies: list[Tally] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tallies = self.tallies or [Tally() for _ in range(self.number)]

    def add(self, rows: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Count one row per environment; the episodes that end with it."""
        finished = []
        for index, tally in enumerate(self.tallies):
            if rows["is_first"][index]:
                tally = self.tallies[index] = Tally()
            else:
                tally.length += 1
                tally.value += float(rows["reward"][index])
                tally.success |= bool(rows["success"][index])
            if rows["is_last"][index]:
                finished.append({"environment": index} | self._record(tally, rows, index))
        return finished

    def _record(self, tally: Tally, rows: Mapping[str, np.ndarray], index: int) -> dict[str, Any]:
        record: dict[str, Any] = {
            "return": tally.value,
            "success": int(tally.success),
            "length": tally.length,
        }
        if self.spec.objects:
            moved = rows["log/moved"][index] > 0
            record["moved"] = [n for n, m in zip(self.spec.objects, moved, strict=True) if m]
        if self.spec.achievements:
            counts = rows["log/achievements"][index].astype(int).tolist()
            pairs = zip(self.spec.achievements, counts, strict=True)
            record["achievements"] = {name: count for name, count in pairs if count}
        return record

    def restart(self, first: np.ndarray) -> None:
        """Begin anew the episodes of environments whose present row is a first one."""
        for index in np.flatnonzero(first):
            self.tallies[index] = Tally()

    def state(self) -> list[list[float]]:
        """What a checkpoint keeps."""
        return [[t.value, int(t.success), t.length] for t in self.tallies]

    def restore(self, state: list[list[float]]) -> None:
        """Go back to a state."""
        self.tallies = [Tally(float(v), bool(s), int(n)) for v, s, n in state]


def metric_value(spec: TaskSpec, record: Mapping[str, Any]) -> float | None:
    """An episode's value in the task's metric; a score belongs to many episodes, so None."""
    return None if spec.metric == "score" else float(record[spec.metric])
