"""`craik doctor`: what this machine can do, and what to do about what it cannot."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline import compilation_cache
from pipeline.environment import cores, gpus
from pipeline.run_folder import versions

GL_VARIABLE = "GL variable"
_TIMEOUT = 120.0  # seconds for a probe in a process of its own

_DEVICE_PROBE = """
import json, jax
devices = jax.devices()
print(json.dumps({"platform": devices[0].platform, "kind": devices[0].device_kind,
                  "devices": [str(d) for d in devices]}))
"""


@dataclass(frozen=True)
class Finding:
    """One row: what was looked at, whether it is well, what was found, what to do."""

    subject: str
    ok: bool
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at Python, devices, GL, video, the cache, and the suites with what they need."""
    return [_python(), _devices(), *_gl(), _video(), _cache(), _tasks(), *_envpool()]


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """The findings as plain data, with versions."""
    return {"findings": [asdict(row) for row in findings], "versions": versions()}


def _python() -> Finding:
    known = ", ".join(f"{name} {number}" for name, number in versions().items())
    return Finding("versions", True, f"Python {sys.version.split()[0]}; {known}")


def _probe(code: str) -> tuple[bool, str]:
    """Run code in a process of its own, since a broken library may take its process along."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer in {_TIMEOUT:.0f} s"
    if done.returncode == 0:
        return True, done.stdout.strip().splitlines()[-1]
    lines = done.stderr.strip().splitlines()
    return False, lines[-1] if lines else f"exit code {done.returncode}"


def _devices() -> Finding:
    ok, answer = _probe(_DEVICE_PROBE)
    if not ok:
        return Finding("devices", False, answer, "JAX does not start: run `make setup` again")
    found = json.loads(answer)
    text = f"{', '.join(found['devices'])} ({found['kind']}), {cores()} cores"
    if gpus() and found["platform"] == "cpu":
        advice = "a GPU is there but JAX does not use it: .venv/bin/pip install -e '.[cuda]'"
        return Finding("devices", False, text, advice)
    return Finding("devices", True, text)


def _gl() -> list[Finding]:
    """Each GL back end tried in turn; one that works is enough."""
    from tasks.rendering import INSTALL_HINT, gl_problem, gl_report

    if problem := gl_problem():
        return [Finding(GL_VARIABLE, False, problem, "unset MUJOCO_GL")]
    report = gl_report()
    any_works = any(row["works"] == "yes" for row in report)
    advice = "not needed, another works" if any_works else INSTALL_HINT
    return [
        Finding(f"GL {row['backend']}", True, "renders")
        if row["works"] == "yes"
        else Finding(f"GL {row['backend']}", False, row["detail"], advice)
        for row in report
    ]


def _video() -> Finding:
    ok, answer = _probe("import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_version())")
    if ok:
        return Finding("video", True, f"ffmpeg {answer}")
    return Finding("video", False, answer, "run `make setup` again")


def _cache() -> Finding:
    folder = compilation_cache.enable()
    if folder is None:
        advice = "set XDG_CACHE_HOME to a folder that can be written"
        return Finding("compilation cache", False, str(compilation_cache.folder()), advice)
    entries = len(list(folder.iterdir()))
    return Finding("compilation cache", True, f"{_short(folder)}, {entries} entries")


def _short(path: Path) -> str:
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if str(path).startswith(home) else str(path)


def _tasks() -> Finding:
    from tasks import registry

    try:
        count = {name: len(suite.tasks) for name, suite in registry.suites().items()}
    except ImportError as error:
        return Finding("tasks", False, str(error), "run `make setup` again")
    return Finding("tasks", True, ", ".join(f"{name} {number}" for name, number in count.items()))


def _envpool() -> list[Finding]:
    """The extra that some suites need, and the library that one of them needs on top."""
    from tasks import registry

    suites = ", ".join(name for name, suite in registry.suites().items() if suite.envpool)
    if find_spec("envpool") is None:
        advice = f"only {suites} need it: .venv/bin/pip install -e '.[envpool]'"
        return [Finding("EnvPool", False, "not installed", advice)]
    ok, answer = _probe("import envpool; print(envpool.__version__)")
    if not ok:
        return [Finding("EnvPool", False, answer, "pip install --force-reinstall envpool")]
    found = [Finding("EnvPool", True, f"{answer}: {suites}")]
    ok, answer = _probe("import envpool.procgen; print('loads')")
    if not ok:
        found.append(Finding("Qt for procgen", False, answer, "apt-get install libqt5gui5"))
    return found


def usable(findings: list[Finding]) -> bool:
    """Whether a study can be run; GL and video are wanted, not needed."""
    needed = ("versions", "devices", "tasks", GL_VARIABLE)
    return all(row.ok for row in findings if row.subject in needed)
