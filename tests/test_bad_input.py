"""Bad input of every kind, through the command line: one line that names the place, exit code 2,
no traceback, and not a byte of the output folder changed.

What single settings may be is tested in test_settings.py, what a name of a task may be in
test_registry.py, what a checkpoint refuses in test_checkpoints.py.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

from pipeline import doctor, run
from pipeline.jobs import build
from pipeline.run_folder import RunFolder
from pipeline.settings import load_study
from pipeline.states import write_json
from pipeline.work import describe
from stages import checkpoints
from stages.explore import fresh_agent
from tasks import registry
from tasks.rendering import choose_gl

GOOD = """
seeds = 1
[tasks]
explore = "desk/free"
transfer = ["desk/push_left:sparse"]
"""
CELL = """
import sys
import gymnasium, numpy as np
from gymnasium.spaces import Box


class Cell(gymnasium.Env):
    observation_space = Box(-1, 1, (3,), np.float32)
    action_space = Box(-1, 1, (2,), np.float32)
    later = np.zeros(3, np.float32)
    reward = 0.0

    def reset(self, seed=None, options=None):
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return self.later, self.reward, False, False, {}


class Shorter(Cell):
    later = np.zeros(2, np.float32)


class Single(Cell):
    later = np.zeros(1, np.float32)  # numpy would broadcast it


class Text(Cell):
    later = "gone"


class Nothing(Cell):
    later = None


class Rewardless(Cell):
    reward = None


class Stuck(Cell):
    def step(self, action):
        raise RuntimeError("the gripper\\nis stuck")


class Tuples(Cell):
    def step(self, action):
        return self.later, 0.0, False, {}


class Leaves(Cell):
    def step(self, action):
        sys.exit(0)


class Infinite(Cell):
    later = np.array([0, np.inf, 0], np.float32)


class Sure(Cell):
    def step(self, action):
        return self.later, 0.0, "no", False, {}


class Successful(Cell):
    def step(self, action):
        return self.later, 0.0, False, False, {"success": None}


class Informed(Cell):
    def reset(self, seed=None, options=None):
        return np.zeros(3, np.float32), None


class Costly(Cell):
    reward = "1.5"


class Endless(Cell):
    reward = float("inf")


class Spaceless(gymnasium.Env): pass


class Textual(Cell):
    action_space = "Box"


class Idle(Cell):
    action_space = Box(-1, 1, (0,), np.float32)


class Extra(Cell):
    spec_extras = {"metric": "success"}


class Misspelt(Cell):
    def __init__(self):
        from tasks.contract import SpecExtras
        self.spec_extras = SpecExtras(metric="sucess")


def leaves(): sys.exit("bye")
def raises(): raise OSError("no licence")
def empty(): return None
def text(): return "an environment"
"""


def study(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return ["run", str(path)]


def extended(rest: str) -> Callable[[Path], list[str]]:
    """A run of the good study with something after it."""
    return lambda tmp_path: study(tmp_path, GOOD + rest)


def setting(*assignments: str) -> Callable[[Path], list[str]]:
    """A run of the good study with --set."""
    sets = [part for text in assignments for part in ("--set", text)]
    return lambda tmp_path: [*study(tmp_path, GOOD), *sets]


def raw(data: bytes) -> Callable[[Path], list[str]]:
    """A run of a study file of these bytes."""

    def prepare(tmp_path: Path) -> list[str]:
        (tmp_path / "mine.toml").write_bytes(data)
        return ["run", str(tmp_path / "mine.toml")]

    return prepare


def directory(tmp_path: Path) -> list[str]:
    (tmp_path / "mine.toml").mkdir()
    return ["run", str(tmp_path / "mine.toml")]


def preset(rest: str, name: str) -> Callable[[Path], list[str]]:
    return lambda tmp_path: [*study(tmp_path, GOOD + rest), "--preset", name]


def factory(name: str) -> Callable[[Path], list[str]]:
    """A run that transfers to a user's own factory."""

    def prepare(tmp_path: Path) -> list[str]:
        (tmp_path / "cell.py").write_text(CELL)
        (tmp_path / "broken.py").write_text("import no_such_driver\ndef make(): ...")
        (tmp_path / "bytes.py").write_bytes(b"def make():\x00\n  pass")
        (tmp_path / "around").mkdir()
        (tmp_path / "around" / "__init__.py").write_text("raise RuntimeError('no display')")
        (tmp_path / "around" / "cells.py").write_text(CELL)
        return [
            *study(tmp_path, GOOD.replace("desk/push_left:sparse", name)),
            *("--set", "explore.steps=0", "--set", "transfer.arms={scratch=[]}"),
        ]

    return prepare


CASES: dict[str, tuple[Callable[[Path], list[str]], list[str]]] = {
    # the text of the file
    "not TOML": (extended("[explore\nsteps = 3"), ["mine.toml", "not valid TOML", "line"]),
    "key twice": (extended("[explore]\nsteps = 3\nsteps = 4"), ["mine.toml", "not valid TOML"]),
    "not UTF-8": (raw(b'name = "\xff\xfe"'), ["mine.toml", "cannot be read", "utf-8"]),
    "UTF-16": (raw(GOOD.encode("utf-16")), ["mine.toml", "cannot be read", "utf-8"]),
    "nul": (raw(b"\x00\x00"), ["mine.toml", "not valid TOML"]),
    "nested": (raw(b"x = " + b"[" * 900 + b"]" * 900), ["mine.toml", "nested more than"]),
    "nested tables": (raw(b"[a." + b"b." * 400 + b"c]\nd = 1"), ["mine.toml", "nested more than"]),
    "a number of 5,000 digits": (raw(b"seeds = " + b"9" * 5000), ["mine.toml", "not valid TOML"]),
    "a mark first": (raw(b"\xef\xbb\xbfseeds = 0"), ["mine.toml: tasks is missing"]),
    "a text of a megabyte": (
        raw(GOOD.encode() + b'[explore]\nsteps="' + b"x" * 10**6 + b'"'),
        ['"xxx', "..."],
    ),
    "empty": (raw(b""), ["mine.toml", "tasks is missing"]),
    "a directory": (directory, ["mine.toml", "study.toml"]),
    # keys and values
    "misspelt key": (extended("[explore]\nstep = 3"), ["mine.toml: explore.step = 3", "steps?"]),
    "misspelt section": (extended("[explor]\nsteps = 3"), ["mine.toml: explor", "explore?"]),
    "wrong type": (extended('[explore]\nsteps = "many"'), ['explore.steps = "many"', "integer"]),
    "a list": (extended("[explore]\nsteps = [1]"), ["explore.steps = [1]", "integer"]),
    "a date": (extended("[explore]\nsteps = 2020-01-01"), ["explore.steps = 2020-01-01"]),
    "negative steps": (extended("[transfer]\nsteps = -5"), ["transfer.steps = -5", "equal to 1"]),
    "infinite": (extended("[training]\nstep_timeout = inf"), ["training.step_timeout = inf"]),
    "too large": (extended(f"[explore]\nsteps = {10**30}"), [f"explore.steps = {10**30}"]),
    "a section is a value": (raw(b"tasks = 3"), ["mine.toml: tasks = 3", "table"]),
    "seeds repeated": (setting("seeds=[1, 2, 1]"), ["--set: seeds = [1, 2, 1]", "twice"]),
    "seeds negative": (setting("seeds=[-1]"), ["--set: seeds = [-1]", "not negative"]),
    "very much memory": (setting("replay.memory_gib=1e300"), ["replay.memory_gib", "1000000"]),
    "very many seeds": (setting("seeds=1_000_000_000"), ["seeds = 1000000000", "at most"]),
    "a name that is a path": (setting('name="../x"'), ['name = "../x"', "letters"]),
    "priorities without errors": (
        setting("replay.priority=0.6"),
        ["--set: replay.priority = 0.6", '"rssm"', "use 0"],
    ),
    # arms
    "unknown component": (
        extended('[transfer.arms]\nx = ["actr"]'),
        ["mine.toml: transfer.arms.x.carry", "actr", "actor?"],
    ),
    "no explorer": (
        setting("agent.curiosity=none", 'transfer.arms={x=["explorer"]}'),
        ["transfer.arms.x.carry", "explorer", "agent.curiosity"],
    ),
    "no arms": (extended("[transfer.arms]"), ["mine.toml: transfer.arms = {}", "at least 1"]),
    "an arm is text": (extended('[transfer.arms]\nx = "policy"'), ["transfer.arms.x", "table"]),
    "an arm is a path": (extended('[transfer.arms]\n"a/b" = []'), ["transfer.arms", "a/b"]),
    "a reference's name": (extended("[transfer.arms]\nRandom = []"), ["arms.Random", "reference"]),
    "a long name": (extended(f"[transfer.arms]\n{'a' * 200} = []"), ["at most 100"]),
    "arms that differ in case": (
        extended("[transfer.arms]\na = []\nA = []"),
        ["transfer.arms.A", "another arm"],
    ),
    # presets and variants
    "no such preset": (preset("", "papr"), ["--preset papr", "paper?"]),
    "contradictory preset": (
        preset("[presets.big]\nmodel.blocks = 7", "big"),
        ["presets.big: model.blocks = 7", "model.recurrent = "],
    ),
    "a preset that compares": (
        preset('[presets.big]\nagent.curiosity = "rnd"', "big"),
        ["presets.big.agent.curiosity", "sizes only"],
    ),
    "a preset against an arm": (
        preset(
            "[transfer.arms]\na = { prior_steps = 50 }\n[presets.small]\ntransfer.steps = 9",
            "small",
        ),
        ["transfer.arms.a.prior_steps = 50", "transfer.steps = 9"],
    ),
    "presets are a list": (raw(b"presets = [1]\n" + GOOD.encode()), ["presets must be a table"]),
    "variants are a table": (extended("[variants]\na = 1"), ["variants must be an array"]),
    "a variant is a file of the run": (
        extended('[[variants]]\nname = "study.toml"'),
        ["variants[0].name", "taken"],
    ),
    "a variant is nameless": (extended("[[variants]]\nset = {}"), ["variants[0].name"]),
    # tasks
    "unknown task": (setting('tasks.transfer=["desk/reech"]'), ["tasks.transfer", "desk/reach"]),
    "unknown suite": (setting('tasks.explore="disk/free"'), ["tasks.explore", "desk/free"]),
    "no tasks": (setting("tasks.transfer=[]"), ["tasks.transfer = []", "at least 1"]),
    "a task is a number": (setting("tasks.transfer=[3]"), ["tasks.transfer[0] = 3", "string"]),
    # a user's own factory
    "no file": (factory("no/cell.py:make"), ["no/cell.py", "no file"]),
    "no factory": (factory("cell.py:celll"), ["cell.py", "'celll'", "nearest"]),
    "no module": (factory("no_such.cells:make"), ["no_such.cells", "no module"]),
    "a file that does not import": (factory("broken.py:make"), ["broken.py", "no_such_driver"]),
    "a file that is not text": (factory("bytes.py:make"), ["bytes.py", "not valid Python"]),
    "a package that raises": (factory("around.cells:Cell"), ["around.cells", "no display"]),
    "a factory that raises": (factory("cell.py:raises"), ["cell.py:raises", "no licence"]),
    "a factory that exits": (factory("cell.py:leaves"), ["cell.py:leaves", "bye"]),
    "a factory of nothing": (factory("cell.py:empty"), ["cell.py:empty", "gymnasium.Env"]),
    "a factory of text": (factory("cell.py:text"), ["cell.py:text", "gymnasium.Env"]),
    "another shape": (factory("cell.py:Shorter"), ["cell.py:Shorter", "observation", "[2]"]),
    "a shape that broadcasts": (factory("cell.py:Single"), ["cell.py:Single", "[1]"]),
    "an observation of text": (factory("cell.py:Text"), ["cell.py:Text", "observation"]),
    "no observation": (factory("cell.py:Nothing"), ["cell.py:Nothing", "observation"]),
    "no reward": (factory("cell.py:Rewardless"), ["cell.py:Rewardless", "reward", "got None"]),
    "a reward of text": (factory("cell.py:Costly"), ["cell.py:Costly", "reward", "'1.5'"]),
    "an endless reward": (factory("cell.py:Endless"), ["cell.py:Endless", "reward", "finite"]),
    "a state that is none": (factory("cell.py:Infinite"), ["cell.py:Infinite", "state", "finite"]),
    "a flag of text": (factory("cell.py:Sure"), ["cell.py:Sure", "terminated", "'no'"]),
    "success unknown": (factory("cell.py:Successful"), ["info['success']", "got None"]),
    "no info": (factory("cell.py:Informed"), ["cell.py:Informed", "info must be a dict"]),
    "no spaces": (factory("cell.py:Spaceless"), ["cell.py:Spaceless", "observation_space", "None"]),
    "a space of text": (factory("cell.py:Textual"), ["cell.py:Textual", "action_space", "'Box'"]),
    "no actions": (factory("cell.py:Idle"), ["cell.py:Idle", "action"]),
    "extras of another type": (factory("cell.py:Extra"), ["cell.py:Extra", "SpecExtras"]),
    "an unknown metric": (factory("cell.py:Misspelt"), ["cell.py:Misspelt", "metric", "sucess"]),
    "a step that exits": (factory("cell.py:Leaves"), ["cell.py:Leaves", "SystemExit: 0"]),
    "a step that raises": (factory("cell.py:Stuck"), ["cell.py:Stuck", "the gripper is stuck"]),
    "four values": (factory("cell.py:Tuples"), ["cell.py:Tuples", "first steps"]),
    # the command line itself
    "no such option": (lambda _: ["run", "desk", "--prest", "cpu"], ["--prest", "craik run -"]),
    "no jobs": (lambda _: ["run", "desk", "--jobs", "0"], ["--jobs", "craik run --help"]),
    "no such command": (lambda _: ["rum", "desk"], ["rum", "craik --help"]),
}


@pytest.fixture(autouse=True)
def place(undisturbed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands start in an empty folder, and none may begin to work; OpenGL is looked for once."""
    monkeypatch.setenv("CRAIK_GL", choose_gl() or "none")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "execute", _working)


def _working(*arguments: object) -> None:
    raise AssertionError("work has begun")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an earlier run, as far as a new command looks at it; no test changes it."""
    root = tmp_path_factory.mktemp("run") / "out"
    settings = load_study("desk", "smoke")
    with RunFolder(root).held():
        RunFolder(root).write_study(settings)
    for job in build(settings.variants).jobs.values():
        write_json(root / job.id / "job.json", describe(job))
        write_json(root / job.id / "done.json", {"digest": job.digest})
    return root


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line_and_touches_nothing(
    case: str, out: Path, tmp_path: Path, mistake: Any
) -> None:
    prepare, parts = CASES[case]
    arguments, before = prepare(tmp_path), contents(out)
    line = mistake(*arguments, "--out", str(out))
    assert all(part in line for part in parts), line
    assert line.startswith("craik: ")
    assert "Traceback" not in line
    assert contents(out) == before


def test_a_torn_record_is_not_taken_for_none(tmp_path: Path, mistake: Any) -> None:
    """It may have said from which exploration the run was carried."""
    root = tmp_path / "out"
    with RunFolder(root).held():
        (root / "run.json").write_text('{"from": {"path"')
    before = contents(root)
    line = mistake("run", "desk", "--preset", "smoke", "--out", str(root))
    assert f"{root / 'run.json'}: damaged" in line
    assert contents(root) == before


@pytest.mark.parametrize("case", ["misspelt key", "unknown task", "a step that raises"])
def test_a_mistake_makes_no_folder(case: str, tmp_path: Path, mistake: Any) -> None:
    prepare, _ = CASES[case]
    mistake(*prepare(tmp_path), "--out", str(tmp_path / "fresh" / "out"))
    assert not (tmp_path / "fresh").exists()


def test_missing_inputs_make_no_folder(tmp_path: Path, mistake: Any) -> None:
    line = mistake("evaluate", "desk", "--out", str(tmp_path / "fresh"))
    assert "craik transfer desk" in line
    assert not (tmp_path / "fresh").exists()


# folders


def test_the_folder_of_another_study_is_refused(out: Path, mistake: Any) -> None:
    before = contents(out)
    line = mistake("run", "crafter", "--preset", "smoke", "--out", str(out))
    assert 'task was "desk/free", now "crafter/reward"' in line
    assert str(out) in line
    assert contents(out) == before


@pytest.mark.parametrize("name", ["study.toml", "tasks/mine.py", "report/index.html"])
@pytest.mark.parametrize("command", ["run", "report"])
def test_a_folder_with_files_of_its_own_is_refused(
    command: str, name: str, tmp_path: Path, mistake: Any
) -> None:
    path = tmp_path / "project" / name
    path.parent.mkdir(parents=True)
    path.write_text(GOOD)
    before = contents(tmp_path)
    line = mistake(command, "desk", "--out", str(tmp_path / "project"))
    assert str(tmp_path / "project") in line
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["run.json", ".lock"])
def test_a_record_of_somebody_else_makes_no_run(name: str, tmp_path: Path, mistake: Any) -> None:
    (tmp_path / "study.toml").write_text("precious = 1")
    (tmp_path / name).write_text('{"project": "mine"}')
    before = contents(tmp_path)
    assert "no run wrote" in mistake("run", "desk", "--out", str(tmp_path))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("inner", ["report", "explore/seed-0", "again"])
def test_a_run_inside_a_run_is_refused(inner: str, out: Path, mistake: Any) -> None:
    before = contents(out)
    line = mistake("run", "desk", "--out", str(out / inner))
    assert f"--out {out / inner}: lies in {out}, which holds a run" in line
    assert contents(out) == before


def test_a_folder_inside_somebody_elses_project_is_fine(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("precious = 1")
    (tmp_path / "run.json").write_text('{"project": "mine"}')
    RunFolder(tmp_path / "runs" / "one").refuse_foreign()


@pytest.mark.parametrize(
    "record",
    [
        {"craik": "1", "from": {"path": "/x"}},
        {"craik": "1", "from": "x"},
        {"craik": "1", "oracles": 3},
        {"craik": "1", "versions": [1]},
    ],
)
def test_a_record_that_is_damaged_is_named(
    record: dict[str, Any], out: Path, tmp_path: Path, mistake: Any
) -> None:
    shutil.copytree(out, tmp_path / "copy")
    write_json(tmp_path / "copy" / "run.json", record)
    for command in (["status"], ["report", "--out"]):
        assert "run.json: damaged" in mistake(*command, str(tmp_path / "copy"))


def test_records_of_different_jobs_are_named(out: Path, tmp_path: Path, mistake: Any) -> None:
    shutil.copytree(out, tmp_path / "copy")
    job = tmp_path / "copy" / "explore" / "seed-0"
    write_json(job / "done.json", {"digest": "another"})
    line = mistake("run", "desk", "--preset", "smoke", "--out", str(tmp_path / "copy"))
    assert f"{job}: its done.json is of another job" in line
    assert f"remove {job}" in line


def test_variants_that_are_damaged_are_named(tmp_path: Path, mistake: Any) -> None:
    for rest, said in (("set = {}", "every variant needs a name"), ('name = "a"', "no such study")):
        (tmp_path / "study.toml").write_text(f"{GOOD}[[variants]]\n{rest}\n")
        assert said in mistake("status", str(tmp_path))


def test_a_report_wants_a_run(tmp_path: Path, mistake: Any) -> None:
    assert "--out is missing" in mistake("report")
    assert "no run here" in mistake("report", str(tmp_path))


def test_a_folder_below_a_file_is_refused(tmp_path: Path, mistake: Any) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        assert f"--out {out}: " in mistake("run", "desk", "--out", str(out))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that root cannot write")
def test_an_unwritable_folder_is_refused(mistake: Any) -> None:
    line = mistake("run", "desk", "--preset", "smoke", "--out", "/proc/craik")
    assert line.startswith("craik: --out /proc/craik: ")


def test_a_path_that_the_system_refuses_is_one_line(mistake: Any) -> None:
    for arguments in (["run", "x" * 5000, "--out", "x"], ["run", "desk", "--out", "x" * 5000]):
        line = mistake(*arguments)
        assert "xxx" in line
        assert line.endswith("File name too long")


# the machine


def test_a_back_end_that_mujoco_does_not_know_is_refused(
    mistake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CRAIK_GL")
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert "MUJOCO_GL=nonsense" in mistake("run", "desk", "--preset", "smoke", "--out", "x")
    findings = doctor.examine()
    assert not doctor.usable(findings)
    assert [row.advice for row in findings if row.subject == doctor.GL_VARIABLE]


# checkpoints


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of an exploration of the desk at smoke size, all of it zeros."""
    settings = load_study("desk", "smoke").first
    spec = registry.spec("desk/free", settings.tasks)
    shapes = eqx.filter_eval_shape(lambda: fresh_agent(settings, spec, 0, "explore", curious=True))
    agent: Any = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x, shapes
    )
    folder = tmp_path_factory.mktemp("explored") / "checkpoint"
    checkpoints.save(folder, "updates-1", agent.components())
    return folder


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "checkpoint"))


def largest(folder: Path) -> Path:
    files = (path for path in folder.rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


def truncated(checkpoint: Path) -> None:
    path = largest(checkpoint)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(checkpoint: Path) -> None:
    data = bytearray(largest(checkpoint).read_bytes())
    data[len(data) // 2] ^= 0x10
    largest(checkpoint).write_bytes(data)


def incomplete(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint / "updates-1" / "components" / "actor")


def unfinished(checkpoint: Path) -> None:
    (checkpoint / "updates-1" / "complete").unlink()


DAMAGE = {
    truncated: ["updates-1/components", "cannot be read"],
    flipped: ["updates-1/components", "cannot be read"],
    incomplete: ["components/actor", "missing"],
    unfinished: ["no checkpoint here"],
    shutil.rmtree: ["no such folder"],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_refused(
    damage: Callable[[Path], None], checkpoint: Path, tmp_path: Path, mistake: Any
) -> None:
    damage(checkpoint)
    before = contents(checkpoint)
    commands = [["transfer", "desk", "--preset", "smoke", "--out", "fresh", "--from"]]
    if checkpoint.exists():
        commands.append(["components"])
    for command in commands:
        line = mistake(*command, str(checkpoint))
        assert all(part in line for part in DAMAGE[damage]), line
        assert str(checkpoint) in line
    assert contents(checkpoint) == before if checkpoint.exists() else True
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("model.width=16", ["component 'encoder'", "has shape", "use the model sizes"]),
        ("agent.curiosity=rnd", ["component 'explorer'", "made by another agent"]),
        ("tasks.action_repeat=2", []),
        ('tasks.transfer=["robodesk/open_slide"]', ["component 'encoder'", "has shape"]),
        ("transfer.arms={a={carry=[], replay_share=0.5}}", ["progress.json", "missing"]),
        ("transfer.arms={a={prior_steps=9}}", []),
    ],
)
def test_a_checkpoint_of_another_agent_is_refused_before_any_work(
    override: str, parts: list[str], trained: Path, tmp_path: Path, mistake: Any
) -> None:
    """Where there are no parts the checkpoint fits, and the next check is the one to refuse."""
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / "report").mkdir()
    line = mistake(
        *("transfer", "desk", "--preset", "smoke", "--out", "fresh", "--set", override),
        *("--from", str(trained)),
    )
    assert all(part in line for part in parts or ["no run wrote"]), line
    assert [path.name for path in (tmp_path / "fresh").iterdir()] == ["report"]
