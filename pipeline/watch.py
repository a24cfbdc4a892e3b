"""`craik watch`: find an agent in a run's folder by task, arm and seed, and roll it out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import StudyError, suggestion
from pipeline.run import prepare
from pipeline.run_folder import RunFolder
from pipeline.settings import load_study
from stages.folders import slug
from stages.settings import Study


def watch(
    run: Path,
    out: Path,
    *,
    task: str | None = None,
    arm: str | None = None,
    seed: int | None = None,
    variant: str | None = None,
    overrides: Sequence[str] = (),
    hz: float | None = None,
    start: bool = False,
) -> dict[str, Any]:
    """Film one episode of a trained agent; returns what happened.

    Args:
        run: the run's folder, wherever it lies now.
        task: as the study writes it, or as its folder is called; may be left out where there is
            only one, as may the arm, the seed and the variant.
        overrides: `KEY=VALUE` over the run's own settings.
        hz: control steps per second to be held.
        start: the agent before its fine-tuning.

    Raises:
        StudyError: the run has no such agent.
        CheckpointError: it is not trained yet.
    """
    if out.suffix != ".mp4":
        raise StudyError(f"--out {out}: name a video, as in watch.mp4")
    prepare()
    studies = RunFolder(run).read_studies()
    folder = run
    if None not in studies:
        names = [name for name in studies if name is not None]
        folder = run / _one("--variant", variant, names, run)
    elif variant is not None:
        raise StudyError(f"--variant {variant}: {run} has no variants")
    study: Study = load_study(folder / "study.toml", None, overrides, exploration=False).first
    tasks = {slug(name): name for name in study.tasks.transfer}
    task = _one("--task", task and tasks.get(task, task), list(tasks.values()), run)
    arm = _one("--arm", arm, list(study.transfer.arms), run)
    seeds = [str(number) for number in study.seed_list]
    number = int(_one("--seed", None if seed is None else str(seed), seeds, run))

    from stages import evaluate, watching

    transfer = folder / "transfer" / slug(task) / arm / f"seed-{number}"
    inputs = evaluate.Inputs(task, arm, number, transfer)
    which = "start" if start else "checkpoint"
    found = watching.watch(study, inputs, out, hz=hz, which=which)
    return {"task": task, "arm": arm, "seed": number, "agent": which} | found


def _one(option: str, chosen: str | None, names: Sequence[str], run: Path) -> str:
    """What the user named, or all that there is.

    Raises:
        StudyError: there is no such thing, or nothing was named and there are several.
    """
    if chosen is None and len(names) == 1:
        return names[0]
    if chosen is None:
        raise StudyError(f"{run}: name one with {option}: {', '.join(names)}")
    if chosen not in names:
        raise StudyError(f"{option} {chosen}: not in {run}; {suggestion(chosen, names)}")
    return chosen
