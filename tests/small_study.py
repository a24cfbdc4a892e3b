"""A small study whose stages do no learning, for tests of the graph and of the back ends."""

from pathlib import Path
from typing import Any

from pipeline.jobs import Graph, build
from pipeline.settings import StudyFile, load_study
from pipeline.work import STAGE_MODULES

FAKES = {stage: f"tests.fakes.{stage}" for stage in STAGE_MODULES}
TASK = "desk-push_left-sparse"
SMALL = ["seeds=2", 'transfer.arms={scratch=[], model=["world_model"]}']


def study(*overrides: str, name: str | Path = "desk") -> StudyFile:
    return load_study(name, "smoke", [*SMALL, *overrides])


def graph(*overrides: str, **options: Any) -> Graph:
    return build(study(*overrides).variants, **options)
