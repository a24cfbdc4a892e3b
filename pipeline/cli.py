"""The command line, `craik`. Heavy imports wait until a command needs them, so --help is quick."""

import errno
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from pipeline import streams
from pipeline.errors import StudyError, suggestion

if TYPE_CHECKING:
    from pipeline.jobs import Stage
    from pipeline.settings import StudyFile

app = typer.Typer(
    name="craik",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Explore a simulated world without rewards, carry the world model and the policy to new"
    " tasks, and measure which of them carried the advantage."
    "\n\nStart with `craik run desk --out runs/desk`.",
)

_CHECKED_STEPS = 60  # env steps of check-task
# What is wrong with a path or a disk, so that no traceback would help.
_USERS_ERRNO = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP),
)

StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A study file, or the name of one in assets/studies: desk, maze, robodesk, crafter,"
        " metaworld, planning-roles, ... (a wrong name lists them all).",
    ),
]
OutOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="The run's folder; made, or gone on with.")
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset", metavar="P", help="Sizes: smoke (minutes), cpu (the default), paper, or own."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="K=V", help="Override a setting, in TOML syntax; may be repeated."
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs", min=1, metavar="N", help="Jobs at once; one per GPU, else per core, if left out."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def run(
    study: StudyArgument,
    out: OutOption,
    preset: PresetOption = None,
    set: SetOption = None,
    jobs: JobsOption = None,
) -> None:
    """Run a study: explore, transfer, evaluate, report.

    The same command goes on where it stopped. Seeds, arms, tasks and variants that were added to
    the study are done too; a change that touches a finished job is refused, with the difference.

    Examples:

    `craik run pipeline.toml --out runs/desk`

    `craik run robodesk --preset smoke --out /tmp/robodesk --jobs 2`

    `craik run desk --out runs/more --set seeds=5 --set 'tasks.transfer=["desk/reach:dense"]'`
    """
    _go(_load(study, preset, set), out, ("explore", "transfer", "evaluate"), jobs)


@app.command()
def explore(
    study: StudyArgument,
    out: OutOption,
    preset: PresetOption = None,
    set: SetOption = None,
    jobs: JobsOption = None,
) -> None:
    """Explore only: world model and policy from an intrinsic reward, and a random baseline.

    Example: `craik explore desk --out runs/desk`, then `craik transfer desk --out runs/desk`.
    """
    _go(_load(study, preset, set), out, ("explore",), jobs, report=False)


@app.command()
def transfer(
    study: StudyArgument,
    out: OutOption,
    preset: PresetOption = None,
    set: SetOption = None,
    jobs: JobsOption = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="CHECKPOINT",
            help="Carry from this exploration (its folder or checkpoint/) for every seed.",
        ),
    ] = None,
) -> None:
    """Transfer only: fine-tune every arm on every task, from the explorations in --out.

    Examples:

    `craik transfer desk --out runs/desk`

    `craik transfer desk --out runs/other --from runs/desk/explore/seed-0/checkpoint`
    """
    loaded = _load(study, preset, set, exploration=source is None)
    _go(loaded, out, ("transfer",), jobs, source=source, report=False)


@app.command()
def evaluate(
    study: StudyArgument,
    out: OutOption,
    preset: PresetOption = None,
    set: SetOption = None,
    jobs: JobsOption = None,
) -> None:
    """Evaluate only: fresh episodes of every arm, before and after fine-tuning, with videos.

    Example: `craik evaluate desk --out runs/desk`, then `craik report desk --out runs/desk`.
    """
    _go(_load(study, preset, set, exploration=False), out, ("evaluate",), jobs, report=False)


@app.command()
def report(
    study: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY]", help="May be left out, or be the run's folder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The run's folder.")
    ] = None,
    preset: PresetOption = None,
    set: SetOption = None,
) -> None:
    """Write the report of a run, finished or not, and say where it is.

    Examples: `craik report runs/desk`, `craik report desk --out runs/desk`
    """
    from pipeline.run import write_report
    from pipeline.run_folder import RunFolder

    if out is None:
        if study is None or not Path(study).is_dir():
            raise StudyError("--out is missing: name the run's folder, as in --out runs/desk")
        study, out = None, Path(study)
    if study is not None:
        _load(study, preset, set, exploration=False)
    folder = RunFolder(out)
    folder.read_studies()  # a folder without a run is a mistake
    folder.refuse_foreign()
    _ = folder.record  # and so is a damaged one
    with folder.written():
        page = write_report(out)
    typer.echo(page)


@app.command()
def status(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Show what is done, running, failed and due in a run, from its folder alone.

    Example: `craik status runs/desk`
    """
    from pipeline import status as module

    rows = module.statuses(directory)
    if as_json:
        return _json(module.as_json(rows))
    _table(f"{directory}", ("job", "state", ""), module.as_rows(rows))
    counts = module.as_json(rows)["counts"]
    assert isinstance(counts, dict)
    typer.echo(", ".join(f"{number} {name}" for name, number in counts.items()))


@app.command()
def watch(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    task: Annotated[str | None, typer.Option(metavar="T", help="One of its tasks.")] = None,
    arm: Annotated[str | None, typer.Option(metavar="A", help="One of its arms.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="One of its seeds.")] = None,
    variant: Annotated[str | None, typer.Option(metavar="V", help="One of its variants.")] = None,
    planner: Annotated[
        str | None,
        typer.Option(metavar="P", help="none, cem, mppi or mcts; the run's if left out."),
    ] = None,
    horizon: Annotated[
        int | None, typer.Option(min=1, metavar="H", help="Steps that the planner looks ahead.")
    ] = None,
    hz: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=10_000,
            metavar="HZ",
            help="Real time: plan with as many samples (cem, mppi) as this device holds at so many"
            " steps a second, and say for how many steps it did.",
        ),
    ] = None,
    start: Annotated[
        bool, typer.Option("--start", help="The agent before its fine-tuning.")
    ] = False,
    explore: Annotated[
        bool, typer.Option("--explore", help="The exploring agent, which knows no rewards.")
    ] = False,
    goal: Annotated[
        str | None,
        typer.Option(
            metavar="GOAL",
            help="Plan to come to what is shown, without rewards: FILE.npz (what the agent sees, by"
            " its keys), FILE.png (where it sees images alone), or TASK@STEP[:SEED], what TASK's"
            " scripted policy shows after STEP steps of this episode (of SEED's).",
        ),
    ] = None,
    plans: Annotated[
        bool,
        typer.Option(
            "--plans",
            help="Draw what the planner (cem, mppi) saw: VIDEO.plans.svg with its candidates and"
            " the predicted against the real outcome, and a strip below the film's frames.",
        ),
    ] = False,
    out: Annotated[Path, typer.Option(metavar="VIDEO", help="The film.")] = Path("watch.mp4"),
    set: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Film a trained agent of a run, with the planner of your choice; nothing is trained.

    What there is only one of need not be named.

    Examples:

    `craik watch runs/desk --task desk/push_left:sparse --arm both --seed 0`

    `craik watch runs/desk --arm model --seed 0 --planner mppi --horizon 8`

    `craik watch runs/desk --arm model --seed 0 --planner mppi --hz 20`

    `craik watch runs/desk --explore --seed 0 --planner mppi --horizon 12 --goal desk/reach@70`
    """
    from pipeline import watch as module
    from policies.planner_names import PLANNERS

    if planner is not None and planner not in PLANNERS:
        raise StudyError(f"--planner {planner}: no such planner; {suggestion(planner, PLANNERS)}")
    chosen = [f'planning.evaluate="{planner}"'] if planner is not None else []
    ahead = "planning.search.depth" if planner == "mcts" else "planning.horizon"
    chosen += [f"{ahead}={horizon}"] if horizon is not None else []
    found = module.watch(
        directory,
        out,
        task=task,
        arm=arm,
        seed=seed,
        variant=variant,
        overrides=[*(set or ()), *chosen],
        hz=hz,
        start=start,
        explore=explore,
        goal=goal,
        plans=plans,
    )
    if as_json:
        return _json(found)
    _table(str(directory), ("", ""), [(name, _shown(value)) for name, value in found.items()])


@app.command()
def tasks(
    suite: Annotated[
        str | None, typer.Argument(metavar="[SUITE]", help="One suite; all if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List suites, or the tasks, variants and splits of one suite.

    Your own task needs no listing: `gymnasium:ID`, `package.module:factory` or
    `path/to/file.py:factory` are names too; see `craik check-task`.

    Example: `craik tasks metaworld`
    """
    from pipeline import task_tables

    table = task_tables.table(suite)
    if as_json:
        return _json(table)
    for title, columns, rows in task_tables.rows(table, suite):
        _table(title, columns, rows)


@app.command()
def plan(
    study: StudyArgument,
    preset: PresetOption = None,
    set: SetOption = None,
    jobs: JobsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a study will do and take, before anything runs.

    Jobs, env steps and updates are exact; memory, disk and time are estimates.

    Example: `craik plan crafter --preset paper`
    """
    from pipeline import plan as module
    from pipeline.environment import default_jobs
    from pipeline.progress import duration

    loaded = _load(study, preset, set)
    jobs = jobs or default_jobs()
    rows = module.plan(loaded)
    data = module.as_json(loaded, rows, jobs)
    if as_json:
        return _json(data)
    columns = ("stage", "jobs", "env steps", "updates", "parameters", "memory", "disk", "time")
    cells = [
        (
            f"{row.variant}: {row.stage}" if row.variant else row.stage,
            f"{row.jobs:,}",
            f"{row.env_steps:,}",
            f"{row.updates:,}",
            f"{row.parameters:,}",
            module.size(row.memory_bytes),
            module.size(row.disk_bytes),
            duration(row.seconds),
        )
        for row in rows
    ]
    _table(f"{loaded.name}, preset {loaded.preset}", columns, cells)
    total = data["total"]
    typer.echo(
        f"{total['jobs']} jobs, {jobs} at once: about {duration(total['seconds'])}"
        f" besides compiling, {module.size(total['memory_bytes_per_job'])} of memory per job,"
        f" {module.size(total['disk_bytes'])} of disk"
    )


@app.command()
def tensorboard(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run's folder.")],
) -> None:
    """Write a run's metrics for TensorBoard, finished or not; again, and they are up to date.

    Example: `craik tensorboard runs/desk`, then `tensorboard --logdir runs/desk/tensorboard`
    """
    from pipeline.run_folder import RunFolder
    from stages import tensorboard as module

    run = RunFolder(directory)
    run.read_studies()  # a folder without a run is a mistake
    try:
        with run.written():
            folder, jobs = module.write(directory)
    except ImportError:
        raise StudyError(
            "tensorboardX is not installed: .venv/bin/pip install -e '.[tensorboard]'"
        ) from None
    typer.echo(f"{folder} ({jobs} jobs): tensorboard --logdir {folder}")


@app.command()
def components(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint/ or start/ folder.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Show a checkpoint's components: leaves, parameters, bytes, digest.

    Equal digests mean equal arrays: compare `start/` of an arm with the exploration's checkpoint
    to see what was carried.

    Example: `craik components runs/desk/explore/seed-0/checkpoint`
    """
    from pipeline.plan import size
    from pipeline.run import prepare

    prepare()
    from stages.checkpoints import components as read

    parts = read(checkpoint)
    if as_json:
        return _json(parts)
    rows = [
        (name, f"{p['leaves']:,}", f"{p['parameters']:,}", size(p["bytes"]), p["digest"])
        for name, p in parts.items()
    ]
    _table(str(checkpoint), ("component", "leaves", "parameters", "size", "digest"), rows)


@app.command("check-task")
def check_task(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Any task name, your own too.")],
    observe: Annotated[
        str, typer.Option(help="What the agent shall see: state, image, or state,image.")
    ] = "state",
    as_json: JsonOption = False,
) -> None:
    """Run the task contract on one task, your own too, and say what does not hold.

    Examples:

    `craik check-task desk/push_left:sparse`

    `craik check-task my_cell/tasks.py:make_peg --observe state,image`
    """
    from pipeline.run import prepare
    from pipeline.settings import task_options

    prepare()
    options = task_options(observe)
    from tasks import check_task as contract
    from tasks import registry

    registry.check(name)  # an unknown name is a mistake, not a finding
    rows = contract.check(name, options, _CHECKED_STEPS)
    holds = all(row.passed for row in rows)
    if as_json:
        checks = [{"check": r.check, "ok": r.passed, "detail": r.detail} for r in rows]
        _json({"task": name, "ok": holds, "checks": checks})
    else:
        cells = [(row.check, "ok" if row.passed else "FAILS", row.detail) for row in rows]
        _table(name, ("check", "", ""), cells)
    if not holds:
        raise typer.Exit(1)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Look at this machine: versions, devices, GL back ends, video; and say what to do.

    Example: `craik doctor`
    """
    from pipeline import doctor as module

    findings = module.examine()
    if as_json:
        _json(module.as_json(findings))
    else:
        rows = [(r.subject, "ok" if r.ok else "no", r.found, r.advice) for r in findings]
        _table("craik doctor", ("", "", "found", "what to do"), rows)
    if not module.usable(findings):
        raise typer.Exit(1)


def _load(
    study: str, preset: str | None, set: list[str] | None, *, exploration: bool = True
) -> "StudyFile":
    from pipeline.settings import load_study

    return load_study(study, preset, set or (), exploration=exploration)


def _go(
    study: "StudyFile",
    out: Path,
    stages: "tuple[Stage, ...]",
    jobs: int | None,
    *,
    source: Path | None = None,
    report: bool = True,
) -> None:
    from pipeline.run import run as run_study

    try:
        ran = run_study(study, out, stages=stages, jobs=jobs, exploration=source, report=report)
    except KeyboardInterrupt:  # here, since typer ends the process without a word
        _end("stopped; the same command goes on from the last checkpoints", 130)
    failed, skipped = len(ran.outcome.failed), len(ran.outcome.skipped)
    done = ran.ran - failed - skipped
    typer.echo(f"{done} jobs done, {ran.finished_before} were done before", err=True)
    if report:
        typer.echo(f"report: {out / 'report' / 'index.html'}")
    if failed:
        typer.echo(
            f"{failed} jobs failed, {skipped} skipped for them; run again to retry", err=True
        )
        raise typer.Exit(1)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):  # first, least, last
        return ", ".join(map(_shown, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_shown(inner)}" for name, inner in value.items())
    return "-" if value is None else str(value)


def _json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, allow_nan=False))


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no width to fold at
    console.print(title, markup=False, highlight=False, style="bold")
    if rows:
        console.print(table)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, a stop 130."""
    signal.signal(signal.SIGTERM, _stop)
    streams.open_closed()
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except KeyboardInterrupt:  # before typer, which ends commands by itself, is at work
        _end("stopped", 130)
    except Exception as error:
        if streams.unheard(error):
            streams.give_up(error)
        if not (line := _mistake(error)):
            raise
        _end(f"craik: {line}", 2)
    sys.exit(code or 0)  # of a command that ended early, as --help and a failed job do


def _mistake(error: Exception) -> str | None:
    """What to tell of a user's mistake; None of anything else, which is ours."""
    if isinstance(error, StudyError) or type(error).__name__ in ("TaskError", "CheckpointError"):
        return str(error)
    if isinstance(error, OSError) and error.errno in _USERS_ERRNO and error.filename:
        return f"{error.filename}: {error.strerror}"
    said = getattr(error, "format_message", None)  # of the command line itself, by typer
    if said is None:
        return None
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "craik"
    return f"{said().rstrip('.')} (see {command} --help)"


def _end(line: str, code: int) -> NoReturn:
    print(" ".join(line.split()), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
