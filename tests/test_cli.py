"""The command line: help that teaches, one line per mistake, JSON that parses."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.run import run
from pipeline.settings import load_study
from pipeline.work import STAGE_MODULES

ROOT = Path(__file__).parent.parent
FAKES = {stage: f"tests.fakes.{stage}" for stage in STAGE_MODULES}
COMMANDS = [
    "run",
    "explore",
    "transfer",
    "evaluate",
    "report",
    "status",
    "watch",
    "tasks",
    "plan",
    "tensorboard",
    "components",
    "check-task",
    "doctor",
]


def craik(
    *arguments: str, cwd: Path = ROOT, stdout: int | IO[str] = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=cwd,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "", "COLUMNS": "100", "NO_COLOR": "1"},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )


pytestmark = pytest.mark.usefixtures("undisturbed")


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run of stages that do no learning."""
    run(load_study("desk", "smoke"), tmp_path / "run", jobs=1, modules=FAKES, report=False)
    return tmp_path / "run"


def test_there_are_these_commands() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    assert names == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_teaches_with_an_example(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert f"craik {command}" in done.output
    assert "xample" in done.output


def test_help_is_quick() -> None:
    best = min(_seconds("--help") for _ in range(3))
    assert best < 2.0


def _seconds(*arguments: str) -> float:
    started = time.monotonic()
    craik(*arguments)
    return time.monotonic() - started


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "no-study", "--out", "x"], ["no-study", "desk"]),
        (["run", "desk", "--out", "x", "--set", "explore.stepz=3"], ["explore.steps"]),
        (["plan", "desk", "--preset", "smok"], ["smok", "smoke"]),
        (["plan", "desk", "--set", 'tasks.transfer=["desk/reech"]'], ["desk/reach"]),
        (["status", "no-run"], ["no-run"]),
        (["report", "desk", "--out", "no-run"], ["no-run"]),
        (["tasks", "robodesc"], ["robodesc", "robodesk"]),
        (["check-task", "desk/reech"], ["desk/reach"]),
        (["check-task", "desk/reach", "--observe", "smell"], ["smell"]),
        (["components", "no-checkpoint"], ["no-checkpoint"]),
        (["transfer", "desk", "--out", "x", "--from", "nowhere"], ["nowhere"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    parts: list[str],
    tmp_path: Path,
    mistake: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    line = mistake(*arguments)
    assert all(part in line for part in parts), line
    assert "Traceback" not in line
    assert not (tmp_path / "x" / "run.json").exists()


@pytest.mark.parametrize("arguments", [("tasks", "desk"), ("tasks", "desk", "--json"), ("--help",)])
def test_a_full_disk_behind_the_output_is_one_line(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = craik(*arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "craik: what is printed cannot be written: No space left on device\n"


def test_who_stops_reading_ends_a_command_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = craik("tasks", "desk", stdout=pipe)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_missing_option_is_a_mistake() -> None:
    assert craik("run", "desk").returncode == 2


def test_tasks_lists_suites_and_tasks() -> None:
    assert "robodesk" in craik("tasks").stdout
    data = json.loads(craik("tasks", "desk", "--json").stdout)
    assert "push_left" in data["desk"]["tasks"]
    assert {"dense", "sparse"} <= set(data["desk"]["variants"])
    assert "desk/push_left" in craik("tasks", "desk").stdout


def test_status_reads_the_folder_alone(finished: Path) -> None:
    data = json.loads(craik("status", str(finished), "--json").stdout)
    assert set(data["counts"]) == {"finished"}
    (finished / "explore/seed-0/done.json").unlink()
    (finished / "explore/random/done.json").unlink()
    (finished / "explore/random/error.txt").write_text("Traceback\nValueError: broken\n")
    rows = {row["job"]: row for row in json.loads(_json("status", str(finished)))["jobs"]}
    assert rows["explore/seed-0"]["state"] == "interrupted"
    assert rows["explore/seed-0"]["progress"].startswith("learn 5/10")
    assert rows["explore/random"]["state"] == "failed"
    assert rows["explore/random"]["progress"] == "ValueError: broken"
    text = craik("status", str(finished)).stdout
    assert "1 failed" in text
    assert "explore/seed-0" in text


def _json(*arguments: str) -> str:
    return craik(*arguments, "--json").stdout


def test_a_changed_setting_is_refused(finished: Path, mistake: Any) -> None:
    line = mistake(
        "run", "desk", "--preset", "smoke", "--out", str(finished), "--set", "model.width=16"
    )
    assert "model.width was 32, now 16" in line


def test_check_task_says_what_holds(tmp_path: Path) -> None:
    done = craik("check-task", "desk/push_left:sparse", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)
    assert data["ok"]
    (tmp_path / "mine.py").write_text(
        "import gymnasium, numpy as np\n"
        "class Env(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)\n"
        "    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        return np.random.rand(2).astype(np.float32), {}\n"
        "    def step(self, action):\n"
        "        return np.zeros(2, np.float32), 0.0, False, False, {}\n"
        "def make():\n"
        "    return Env()\n"
    )
    done = craik("check-task", "mine.py:make", "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    checks = {row["check"]: row["ok"] for row in json.loads(done.stdout)["checks"]}
    assert checks["can be built"]
    assert not all(checks.values())


def test_doctor_reports() -> None:
    done = craik("doctor", "--json")
    data = json.loads(done.stdout)
    subjects = {row["subject"] for row in data["findings"]}
    assert {"versions", "devices", "video", "tasks"} <= subjects
    assert "jax" in data["versions"]
    assert done.returncode == 0
