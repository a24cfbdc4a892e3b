"""The back ends that run a graph of jobs, and how progress is said, on stages that do nothing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline import backends
from pipeline.jobs import Graph, Job
from pipeline.progress import PlainWatcher, duration, read_progress
from pipeline.states import due, state
from pipeline.work import Result, Task
from tests.small_study import FAKES, TASK, graph

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.usefixtures("undisturbed")


class Log:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.results: dict[str, Result] = {}

    def started(self, job: Job) -> None:
        self.events.append(("started", job.id))

    def finished(self, job: Job, result: Result) -> None:
        self.events.append((result.outcome, job.id))
        self.results[job.id] = result

    def skipped(self, job: Job, cause: str) -> None:
        self.events.append(("skipped", job.id))

    def tick(self) -> None: ...


def tasks_of(root: Path, found: Graph) -> list[Task]:
    return [Task(job, root, "1", FAKES) for job in found.jobs.values()]


@pytest.fixture
def flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRAIK_FAKE_FLAG", str(tmp_path / "flag"))
    return tmp_path / "flag"


@pytest.mark.parametrize("workers", [1, 2])
def test_inputs_come_first_and_a_failure_skips_what_needs_it(
    tmp_path: Path, flag: Path, workers: int
) -> None:
    flag.write_text("raise")
    log = Log()
    outcome = backends.execute(tasks_of(tmp_path, graph()), workers, log)
    failing = {f"transfer/{TASK}/model/seed-{seed}" for seed in (0, 1)}
    assert set(outcome.failed) == failing
    assert set(outcome.skipped) == {id.replace("transfer", "evaluate") for id in failing}
    for id in failing:
        assert log.results[id].message == "ValueError: the arm fell off"
        assert "Traceback" in (tmp_path / id / "error.txt").read_text()
        assert state(tmp_path / id) == "failed"
    order = [id for kind, id in log.events if kind == "started"]
    for id in order:
        if id.startswith("evaluate") and "seed" in id:
            assert order.index(id.replace("evaluate", "transfer", 1)) < order.index(id)
    flag.unlink()
    left = Graph({job.id: job for job in due(tmp_path, graph())})
    assert set(left.jobs) == failing | set(outcome.skipped)
    assert backends.execute(tasks_of(tmp_path, left), workers, Log()) == backends.Outcome()
    assert not any((tmp_path / id / "error.txt").exists() for id in failing)


def test_what_a_running_job_compiles_is_not_compiled_beside_it(tmp_path: Path) -> None:
    queue = backends.Queue.of(tasks_of(tmp_path, graph()), Log())

    def take() -> Task:
        task = queue.next()
        assert task is not None
        return task

    def end(task: Task, outcome: Literal["finished", "failed"] = "finished") -> None:
        queue.close(task, Result(task.job.id, outcome, 1.0))

    exploring, walking, scratch = take(), take(), take()
    assert exploring.job.id == "explore/seed-0"
    assert walking.job.id == "explore/random"  # it learns nothing, so it is of another kind
    assert scratch.job.id == f"transfer/{TASK}/scratch/seed-0"
    end(walking)
    assert take().job.id == f"evaluate/{TASK}/random"
    assert take().job.id == "explore/seed-1"  # nothing of another kind is ready
    end(exploring)
    end(scratch, "failed")
    assert take().job.id == f"transfer/{TASK}/scratch/seed-1"  # what failed compiles no more


def test_a_pool_of_two_uses_two_long_lived_processes(tmp_path: Path) -> None:
    backends.execute(tasks_of(tmp_path, graph()), 2, Log())
    pids = {p.read_text().strip() for p in tmp_path.rglob("runs.txt")}
    assert len(pids) == 2
    assert str(os.getpid()) not in pids
    assert "said by seed-0" in (tmp_path / "explore/seed-0/log.txt").read_text()


def test_a_worker_that_dies_is_reported_and_replaced(tmp_path: Path, flag: Path) -> None:
    flag.write_text("die")
    log = Log()
    outcome = backends.execute(tasks_of(tmp_path, graph()), 2, log)
    assert len(outcome.failed) == 2
    assert all("signal 9" in log.results[id].message for id in outcome.failed)
    assert state(tmp_path / f"evaluate/{TASK}/scratch/seed-1") == "finished"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stop_leaves_no_process_behind(
    tmp_path: Path, flag: Path, number: signal.Signals
) -> None:
    flag.write_text("hang")
    code = (
        "import sys, signal; from pathlib import Path; import tests.test_backends as t\n"
        "def main():\n"
        "    from pipeline.cli import _stop; signal.signal(signal.SIGTERM, _stop)\n"
        # a terminal's disposition: whoever is started in the background inherits SIGINT ignored
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    t.backends.execute(t.tasks_of(Path(sys.argv[1]), t.graph()), 2, t.Log())\n"
        "if __name__ == '__main__': main()"
    )
    script = tmp_path / "stopped.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        hung = tmp_path / f"transfer/{TASK}/model/seed-0"
        until(lambda: (hung / "hangs").exists())
        worker = int((hung / "runs.txt").read_text())
        process.send_signal(number)
        process.wait(timeout=1.5 * backends._GRACE)  # a slow machine may need all of it
    until(lambda: not alive(worker))
    assert state(hung) == "interrupted"


def until(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


# progress


def test_progress_is_read_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_progress(tmp_path) is None
    content = {"phase": "learn", "done": 500, "total": 1000, "unit": "env steps", "rate": 50.0}
    (tmp_path / "progress.json").write_text(json.dumps(content | {"started": 0, "updated": 1}))
    reading = read_progress(tmp_path)
    assert reading is not None
    assert reading.left == 10
    assert str(reading) == "learn 500/1,000 env steps 50/s, 10s left"
    (tmp_path / "progress.json").write_text('{"phase": ')
    assert read_progress(tmp_path) is None
    job = graph().jobs["explore/seed-0"]
    PlainWatcher(tmp_path, 2).finished(job, Result(job.id, "finished", 95.0))
    assert "done    explore/seed-0 in 1m35s [1/2]" in capsys.readouterr().err


def test_where_nobody_listens_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", 1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        PlainWatcher(Path(), 2).started(graph().jobs["explore/seed-0"])
    with contextlib.suppress(BrokenPipeError):  # of what it could not say
        stream.close()


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)])
def test_closed_streams_end_no_job(tmp_path: Path, closed: tuple[int, ...]) -> None:
    code = (
        "import sys; from pathlib import Path; import tests.test_backends as t\n"
        "from pipeline import streams\n"
        "if __name__ == '__main__':\n"
        "    streams.open_closed()\n"
        "    t.backends.execute(t.tasks_of(Path(sys.argv[1]), t.graph()), 2, t.Log())\n"
    )
    script = tmp_path / "deaf.py"
    script.write_text(code)
    done = subprocess.run(
        [
            "sh",
            "-c",
            f"exec {sys.executable} {script} {tmp_path} " + "".join(f" {n}>&-" for n in closed),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0
    assert not due(tmp_path, graph())
    assert "said by seed-0" in (tmp_path / "explore/seed-0/log.txt").read_text()


def test_durations() -> None:
    assert [duration(s) for s in (None, 5, 65, 3700)] == ["?", "5s", "1m05s", "1h01m"]
