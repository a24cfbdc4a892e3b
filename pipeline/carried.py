"""An exploration from elsewhere (`craik transfer --from`): what it is, and whether it fits."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import StudyError
from pipeline.jobs import Exploration
from stages.settings import Study
from tasks.contract import TaskSpec


def outside_exploration(path: Path) -> Exploration:
    """An exploration's folder or `checkpoint/`, with a digest of what it holds.

    Raises:
        StudyError: there is no such folder.
        CheckpointError: it holds no checkpoint, or a damaged one.
    """
    from stages.checkpoints import components

    checkpoint = path / "checkpoint" if (path / "checkpoint").is_dir() else path
    if not checkpoint.is_dir():
        raise StudyError(f"--from {path}: no such folder; name a checkpoint/ or its job's folder")
    parts = {name: part["digest"] for name, part in components(checkpoint).items()}
    text = json.dumps(parts, sort_keys=True)
    return Exploration(path.resolve(), hashlib.sha256(text.encode()).hexdigest()[:16])


def check_fits(path: Path, study: Study, specs: Mapping[str, TaskSpec]) -> None:
    """Whether every arm can take from the exploration what it is to take, before anything runs.

    Raises:
        CheckpointError: something is missing, damaged, or of another agent.
    """
    import equinox as eqx

    from stages import checkpoints
    from stages.explore import fresh_agent
    from stages.transfer import PRIOR

    seen = set()
    for task in study.tasks.transfer:
        spec = specs[task]
        for arm in study.transfer.arms.values():
            names = {*arm.components, *(PRIOR if arm.prior_steps else ())}
            case = (str(spec.observation), spec.action, frozenset(names), arm.curious)
            if names and case not in seen:
                seen.add(case)
                agent = eqx.filter_eval_shape(
                    lambda spec=spec, arm=arm: fresh_agent(
                        study, spec, 0, "transfer", curious=arm.curious
                    )
                )
                checkpoints.check_agent(path, agent, names)
    arms = study.transfer.arms.values()
    if any(arm.replay_share or arm.relabelled_updates for arm in arms):
        checkpoints.restore_progress(checkpoints.find(path))
