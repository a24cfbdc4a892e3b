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
    explore: bool = False,
    goal: str | None = None,
    plans: bool = False,
) -> dict[str, Any]:
    """Film one episode of a trained agent; returns what happened.

    Args:
        run: the run's folder, wherever it lies now.
        task: as the study writes it, or as its folder is called; may be left out where there is
            only one, as may the arm, the seed and the variant.
        overrides: `KEY=VALUE` over the run's own settings.
        hz: control steps per second to be held.
        start: the agent before its fine-tuning.
        explore: the exploring agent, in the task explored or one of those transferred to.
        goal: what the planner is to come to (see `stages.goals`).
        plans: draw what the planner saw (see `stages.plans`).

    Raises:
        StudyError: the run has no such agent.
        CheckpointError: it is not trained yet.
    """
    if out.suffix != ".mp4":
        raise StudyError(f"--out {out}: name a video, as in watch.mp4")
    above = next(parent for parent in out.absolute().parents if parent.exists())
    if out.is_dir() or not above.is_dir():
        what = "it is a folder" if out.is_dir() else f"{above} is no folder"
        raise StudyError(f"--out {out}: {what}; name a video, as in watch.mp4")
    prepare()
    studies = RunFolder(run).read_studies()
    folder = run
    if None not in studies:
        names = [name for name in studies if name is not None]
        folder = run / _one("--variant", variant, names, run)
    elif variant is not None:
        raise StudyError(f"--variant {variant}: {run} has no variants")
    study: Study = load_study(folder / "study.toml", None, overrides, exploration=False).first
    seeds = [str(number) for number in study.seed_list]
    number = int(_one("--seed", None if seed is None else str(seed), seeds, run))
    if explore and (arm is not None or start):
        raise StudyError(f"--explore: an exploration has no {'start' if start else 'arms'}")
    tasks = [*([study.tasks.explore] if explore else []), *study.tasks.transfer]
    if explore and task is None:
        task = study.tasks.explore
    named = {slug(name): name for name in tasks}
    task = _one("--task", task and named.get(task, task), tasks, run)
    row: dict[str, Any] = {"task": task, "seed": number}

    from stages.watching import Cast
    from stages.watching import watch as film

    if explore:
        cast = Cast(task, number, folder / "explore" / f"seed-{number}", "explore", True)
        row["agent"] = "explore"
    else:
        arm = _one("--arm", arm, list(study.transfer.arms), run)
        if not any(text.startswith("planning.evaluate") for text in overrides):
            planning = study.planning.model_copy(update={"evaluate": study.evaluated_by(arm)})
            study = study.model_copy(update={"planning": planning})
        which = "start" if start else "checkpoint"
        source = folder / "transfer" / slug(task) / arm / f"seed-{number}" / which
        cast = Cast(task, number, source, "transfer", study.transfer.arms[arm].curious)
        row |= {"arm": arm, "agent": which}
    if goal is not None and study.planning.evaluate not in ("cem", "mppi"):
        raise StudyError(f"--goal {goal}: a planner is needed to come to it; add --planner mppi")
    if plans and study.planning.evaluate not in ("cem", "mppi"):
        raise StudyError("--plans: only cem and mppi draw plans to be shown; add --planner mppi")
    return row | film(study, cast, out, hz=hz, goal=goal, plans=plans)


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
