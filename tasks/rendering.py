"""Headless rendering: which OpenGL works here, cheaper pictures, and frames from a MuJoCo model.

MuJoCo reads the environment variable MUJOCO_GL once, when it is imported, so `choose_gl` comes
before any import of a simulator. What works is found out in a subprocess, because a missing or
broken GL library can take the whole process down.
"""

import contextlib
import importlib
import os
import platform
import subprocess
import sys
import weakref
from typing import Any

import numpy as np

from tasks.contract import TaskError

BACKENDS = ("egl", "osmesa")
# What MuJoCo lets MUJOCO_GL be, on any system.
_KNOWN_GL = (
    *("", "egl", "osmesa", "glfw", "glx", "cgl", "wgl", "enable", "enabled", "on", "true", "1"),
    *("disable", "disabled", "off", "false", "0"),
)
INSTALL_HINT = "install OpenGL: apt-get install libegl1 libgl1 (or libosmesa6)"

# The outcome of the probe, inherited by worker processes: a back end, "native", or "none".
_CACHE = "CRAIK_GL"
_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 2'/><geom size='1' rgba='1 0 0 1'/>"
    "<camera pos='0 0 4'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(data, 0)
assert renderer.render().any(), "the picture is black"
renderer.close()
"""


def choose_gl() -> str | None:
    """Set MUJOCO_GL to the first back end that draws a picture, unless it is set already.

    Returns:
        The back end ("egl", "osmesa", "native" for the platform's own, or what the user had
        set), or None where none works; then MUJOCO_GL is "disable", simulation works, and only
        drawing fails.

    Raises:
        TaskError: MUJOCO_GL is set to what MuJoCo would not even be imported with.
    """
    if problem := gl_problem():
        raise TaskError(problem)
    cached = os.environ.get(_CACHE)
    if cached:
        return None if cached == "none" else cached
    chosen = os.environ.get("MUJOCO_GL") or _first_working()
    os.environ[_CACHE] = chosen or "none"
    if chosen is None:
        os.environ["MUJOCO_GL"] = "disable"
    elif chosen != "native":
        os.environ["MUJOCO_GL"] = chosen
    return None if chosen in (None, "disable") else chosen


def gl_problem() -> str:
    """What is wrong with the value of MUJOCO_GL, in one line; "" if nothing is."""
    value = os.environ.get("MUJOCO_GL", "")
    if value.lower().strip() in _KNOWN_GL:
        return ""
    return f"MUJOCO_GL={value}: MuJoCo has no such back end; unset it, or take egl, osmesa, disable"


def gl_report() -> list[dict[str, str]]:
    """Try every back end in turn, for `craik doctor`.

    Returns:
        Rows of {"backend", "works": "yes"|"no", "detail": last line of the error, or ""}.
    """
    rows = []
    for backend in _candidates():
        error = _try(backend)
        rows.append({"backend": backend, "works": "no" if error else "yes", "detail": error})
    return rows


def fast(model: Any) -> None:
    """Make pictures of a MuJoCo model 10 to 60 times cheaper on a CPU: no shadows, reflections
    or antialiasing. The picture changes, so this is a recorded setting (`render = "fast"`).
    """
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 0
    model.light_castshadow[:] = False
    model.mat_reflectance[:] = 0


class Frames:
    """Square frames of a MuJoCo model from one camera.

    The GL context is made with the first frame, in the process that asks for it, because a
    context does not survive a fork; and it is closed explicitly, because OSMesa corrupts the
    pictures of a newer renderer when an older one is merely collected.
    """

    def __init__(self, model: Any, size: int, camera: int | str = -1) -> None:
        self._model, self._size, self._camera = model, size, camera
        self._renderer: Any = None
        self._close: weakref.finalize | None = None

    def frame(self, data: Any) -> np.ndarray:
        """Draw the simulation's present state: uint8 [size, size, 3].

        Raises:
            RuntimeError: no OpenGL works here; the message says what to install.
        """
        renderer = self._renderer or self._open()
        renderer.update_scene(data, self._camera)
        return renderer.render()

    def close(self) -> None:
        """Release the GL context."""
        if self._close is not None:
            self._close()
        self._renderer = self._close = None

    def _open(self) -> Any:
        import mujoco

        if choose_gl() is None:
            raise RuntimeError(f"no OpenGL back end works, so nothing can be drawn: {INSTALL_HINT}")
        buffer = self._model.vis.global_
        buffer.offwidth = max(buffer.offwidth, self._size)
        buffer.offheight = max(buffer.offheight, self._size)
        renderer = mujoco.Renderer(self._model, self._size, self._size)
        # also at exit: EGL prints tracebacks when it outlives the interpreter
        self._close = weakref.finalize(self, _close_quietly, renderer)
        self._renderer = renderer
        return renderer


def _close_quietly(renderer: Any) -> None:
    with contextlib.suppress(Exception):
        renderer.close()


def _candidates() -> tuple[str, ...]:
    return BACKENDS if platform.system() == "Linux" else ("native",)


def _first_working() -> str | None:
    return next((backend for backend in _candidates() if not _try(backend)), None)


def _try(backend: str) -> str:
    """Draw with one back end in a subprocess; the error's last line, or "" if it works."""
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    if backend != "native":
        environment["MUJOCO_GL"] = backend
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        return "drawing one picture took more than 120 s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"the process died with code {done.returncode}"


def image_size(frame: np.ndarray, size: int) -> np.ndarray:
    """Scale a uint8 frame [H, W, 3] to [size, size, 3]."""
    if frame.shape[:2] == (size, size):
        return np.ascontiguousarray(frame)
    image = importlib.import_module("PIL.Image")
    resized = image.fromarray(frame).resize((size, size), image.Resampling.BILINEAR)
    return np.asarray(resized)
