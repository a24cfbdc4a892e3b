"""Headless Chromium over the DevTools protocol's pipe: no port, no driver, no package."""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


def executable() -> str | None:
    """Where a Chromium is: $CHROMIUM, or on the path; None if there is none."""
    names = (os.environ.get("CHROMIUM"), "chromium", "google-chrome", "chromium-browser")
    return next((path for name in names if name and (path := shutil.which(name))), None)


@dataclass
class Page:
    """One open page and what went wrong on it."""

    errors: list[str] = field(default_factory=list)  # console errors and exceptions
    failed: list[str] = field(default_factory=list)  # requests that failed
    requests: list[str] = field(default_factory=list)  # every address asked for


class Browser:
    """A running Chromium; use `launch`."""

    def __init__(self, writer: int, reader: int) -> None:
        self._writer, self._reader = writer, reader
        self._buffer, self._number, self._loaded = b"", 0, False
        self._session: str | None = None
        self.page = Page()

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """Open a file in a fresh tab and wait until it has loaded."""
        self.page, self._session, self._loaded = Page(), None, False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri())
        until = time.monotonic() + 60
        while not self._loaded:
            self._receive(until)
        self.evaluate("new Promise(done => setTimeout(done, 300))")  # late errors
        return self.page

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        return answer["result"].get("value")

    def screenshot(self, path: Path, *, full: bool = True) -> None:
        """A PNG of the page, of its full height or of the window."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=full)["data"]
        path.write_bytes(base64.b64decode(data))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + 60
        while True:
            answer = self._receive(until)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _receive(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reader], [], [], max(0.0, until - time.monotonic()))
            chunk = os.read(self._reader, 1 << 16) if ready else b""
            if not chunk:
                raise RuntimeError("Chromium does not answer")
            self._buffer += chunk
        text, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                self.page.errors.append(params["exceptionDetails"]["text"])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.page.errors.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.page.errors.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.page.requests.append(params["request"]["url"])
            case "Network.loadingFailed" if not params.get("canceled"):
                self.page.failed.append(params.get("errorText", "failed"))


@contextmanager
def launch(program: str) -> Iterator[Browser]:
    """Start Chromium with a fresh profile; it is gone afterwards.

    It is spawned, not forked: a test process that has threads must not fork.
    """
    profile = tempfile.mkdtemp(prefix="chromium-")
    to_browser, from_browser = os.pipe(), os.pipe()
    # high numbers, so that moving one end to 3 or 4 cannot overwrite the other
    ends = [
        fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 100) for end in (to_browser[0], from_browser[1])
    ]
    quiet = os.open(os.devnull, os.O_WRONLY)
    actions = [
        (os.POSIX_SPAWN_DUP2, ends[0], 3),
        (os.POSIX_SPAWN_DUP2, ends[1], 4),
        (os.POSIX_SPAWN_DUP2, quiet, 2),
    ]
    command = [program, *FLAGS, f"--user-data-dir={profile}"]
    process = os.posix_spawn(program, command, os.environ, file_actions=actions, setpgroup=0)
    for end in (to_browser[0], from_browser[1], quiet, *ends):
        os.close(end)
    try:
        yield Browser(to_browser[1], from_browser[0])
    finally:
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(to_browser[1])
        os.close(from_browser[0])
        shutil.rmtree(profile, ignore_errors=True)
