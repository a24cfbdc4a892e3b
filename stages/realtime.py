"""Acting in real time: the largest planner that holds a deadline here, and whether it was held.

Latency is the time from an observation to the action for it, on this device: state estimation,
planning, and the way to the device and back. Simulating and drawing do not count.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from policies.agent import Agent, component_key
from policies.settings import Planner as PlannerName
from policies.settings import PlanningSettings
from stages.acting import AgentActor, Rows
from stages.rollout import Chooser
from tasks.contract import TaskSpec
from tasks.group import empty_rows

LEAST, MOST = 16, 4096  # samples
MARGIN = 0.75  # of the time between two steps; the rest is for what else the machine does
CALLS = 30  # timed, after those that compile

Measure = Callable[[PlanningSettings], float]


@dataclass(frozen=True)
class Calibration:
    """What was chosen, and the seconds that 95 % of its actions take at most."""

    settings: PlanningSettings
    seconds: float
    holds: bool


def calibrate(settings: PlanningSettings, hz: float, measure: Measure) -> Calibration:
    """The largest number of samples, a power of two, whose 95th percentile leaves a margin.

    Elites keep their share; all else stays. Time grows with samples, so that a measurement says
    where to look next.
    """
    budget = MARGIN / hz
    low, high = LEAST // 2, 2 * MOST  # what holds, and what does not
    samples = _power(settings.samples)
    tried: dict[int, float] = {}
    while high > 2 * low:
        tried[samples] = measure(sized(settings, samples))
        if tried[samples] <= budget:
            low = samples
        else:
            high = samples
        guess = _power(samples * budget / tried[samples])
        samples = min(max(guess, 2 * low), high // 2)
    best = max(low, LEAST)
    return Calibration(sized(settings, best), tried[best], low == best)


def sized(settings: PlanningSettings, samples: int) -> PlanningSettings:
    """The settings with another number of samples, and as large a share of elites."""
    elites = max(1, round(samples * settings.elites / settings.samples))
    return settings.model_copy(update={"samples": samples, "elites": elites})


def latency(
    spec: TaskSpec,
    agent: Agent,
    planner: PlannerName,
    settings: PlanningSettings,
    wants: Mapping[str, Any] = MappingProxyType({}),
) -> float:
    """Seconds that 95 % of one environment's actions take at most, once compiled.

    `wants`: see `stages.acting.AgentActor`.
    """
    rows = empty_rows(spec, 1)
    key = component_key(0, "evaluate", "calibration")
    actor = AgentActor(spec, agent, 1, key, planner=planner, greedy=True, settings=settings)
    timed = Timed(lambda rows, count: actor(agent, rows, count, **wants))
    for count in range(CALLS + 3):
        timed(rows, count)
    return float(np.percentile(timed.seconds[3:], 95))


@dataclass
class Timed:
    """Chooses actions and keeps how long each took."""

    choose: Chooser
    seconds: list[float] = field(default_factory=list)

    def __call__(self, rows: Rows, count: int) -> np.ndarray:
        started = time.perf_counter()
        actions = self.choose(rows, count)
        self.seconds.append(time.perf_counter() - started)
        return actions

    def summary(self, hz: float | None) -> dict[str, Any]:
        """Milliseconds per action, and the share of steps whose action came in time."""
        taken = np.array(self.seconds)
        middle, high = np.percentile(taken, [50, 95])
        row = {"median_ms": 1e3 * middle, "p95_ms": 1e3 * high, "worst_ms": 1e3 * taken.max()}
        rounded = {name: round(float(value), 3) for name, value in row.items()}
        return rounded | ({"in_time": float((taken <= 1 / hz).mean())} if hz else {})


def _power(number: float) -> int:
    """The largest power of two that is not above, within what is tried."""
    return int(np.clip(2 ** int(np.log2(max(number, 1))), LEAST, MOST))
