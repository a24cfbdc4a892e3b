"""Rolling out an agent that a run has trained, with any planner, and filming it."""

from pathlib import Path
from typing import Any

from stages.evaluate import Inputs, load_agent
from stages.realtime import Calibration, Timed, calibrate, latency
from stages.rollout import Examination, Film
from stages.settings import Study
from stages.videos import write_video
from tasks import registry

LONGEST = 1000  # steps filmed; longer episodes are cut
SAMPLED = ("samples", "elites", "iterations", "horizon")
SIZES = {"cem": SAMPLED, "mppi": SAMPLED, "mcts": ("simulations", "depth", "actions")}


def watch(
    study: Study, inputs: Inputs, out: Path, *, hz: float | None = None, which: str = "checkpoint"
) -> dict[str, Any]:
    """Film the first evaluation episode of an agent; returns what happened.

    Args:
        study: its `planning.evaluate` and `planning` say who plans, and how.
        hz: control steps per second; the samples of `cem` and `mppi` are chosen for it on this
            device, other planners are only timed.
        which: `start` for the agent before its fine-tuning.

    Raises:
        CheckpointError: the agent is not there, or is another one.
    """
    spec = registry.spec(inputs.task, study.tasks)
    agent = load_agent(study, spec, inputs, which)
    planner, settings = study.planning.evaluate, study.planning
    calibration: Calibration | None = None
    if hz is not None and SIZES.get(planner) == SAMPLED:
        calibration = calibrate(settings, hz, lambda s: latency(spec, agent, planner, s))
        settings = calibration.settings
    else:
        latency(spec, agent, planner, settings)  # so that compiling is no step's latency
    alone = study.evaluate.model_copy(update={"environments": 1})
    study = study.model_copy(update={"planning": settings, "evaluate": alone})
    exam = Examination(study, inputs.task, spec, "evaluate", 1)
    film = Film(LONGEST)
    greedy = spec.action.kind == "continuous"
    timed = Timed(exam.agent_chooser(agent, inputs.seed, planner, greedy))
    long = spec.episode_length is None or spec.episode_length > LONGEST
    try:
        records = exam.run(timed, film, steps=LONGEST if long else None)
    finally:
        exam.close()
    frames = [frame for episode in film.frames for frame in episode]
    write_video(out, frames, hz or spec.control_hz)
    row: dict[str, Any] = {"planner": planner, "steps": len(timed.seconds)}
    sizes = settings.search if planner == "mcts" else settings
    row |= {name: getattr(sizes, name) for name in SIZES.get(planner, ())}
    if calibration is not None:
        row["calibrated_ms"] = round(1e3 * calibration.seconds, 3)
        row["holds"] = calibration.holds
    for name in ("return", "success"):
        row[name] = records[0][name] if records else None
    return row | timed.summary(hz) | {"video": str(out) if frames else None}
