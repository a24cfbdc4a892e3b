"""Planners named with their size and model: `mcts-16` is the tree search with 16 simulations.

    none                    the policy alone, which is what a search of 0 simulations comes to
    cem, mppi, mcts         as large as `[planning]` says
    mcts-N                  N simulations (`planning.search.simulations`)
    cem-N, mppi-N           N action sequences a round (`planning.samples`)
    ...@simulator           the same in the task's own step, not in the model that was learnt

What else a planner needs to know stays as `[planning]` says.
"""

import re
from typing import NamedTuple, get_args

from policies.settings import Planner, PlanningSettings

PLANNERS: tuple[Planner, ...] = get_args(Planner)
UNITS = {"mcts": "simulations", "cem": "samples", "mppi": "samples"}
LONGEST = 6  # digits of a size
SIMULATOR = "simulator"
_SIZE = rf"[1-9][0-9]{{0,{LONGEST - 1}}}"
_NAME = re.compile(rf"none|(cem|mppi|mcts)(?:-({_SIZE}))?(?:@({SIMULATOR}))?")


class Named(NamedTuple):
    """A planner, with its size and with the model that it is to plan in where the name has them."""

    planner: Planner
    size: int | None
    model: str | None


def parse(name: str) -> Named:
    """What a name says.

    Raises:
        ValueError: it is no planner's.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name}: no planner's name")
    planner = PLANNERS[PLANNERS.index(found[1] or "none")]
    return Named(planner, int(found[2]) if found[2] else None, found[3])


def evaluated(name: str, planning: PlanningSettings) -> PlanningSettings:
    """Settings with which the planner of a name, in its size, acts at evaluations.

    Raises:
        ValueError: it is no planner's.
    """
    planner, size, _ = parse(name)
    update: dict[str, object] = {"evaluate": planner}
    if size is not None and planner == "mcts":
        update["search"] = planning.search.model_copy(update={"simulations": size})
    elif size is not None:
        update["samples"] = size
    return planning.model_copy(update=update)
