"""Our services as real processes: started on a free port, watched, and always stopped."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import plain_http

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import httpx

ROOT = Path(__file__).parents[2]
_LISTENING = re.compile(r"(?:ready|listening) on (http://\S+)")
_START_SECONDS = 120
_STOP_SECONDS = 60


class Process:
    """One running `python -m SERVICE`, and where it listens."""

    def __init__(self, popen: subprocess.Popen[str], errors: Path) -> None:
        self.popen, self._errors = popen, errors
        self.url = self._announced()

    def get(self, path: str) -> httpx.Response:
        return plain_http.get(self.url + path)

    def errors(self) -> str:
        return self._errors.read_text()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(_STOP_SECONDS)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        self.popen.send_signal(signum)
        return self.popen.wait(_STOP_SECONDS)

    def _announced(self) -> str:
        """Read the address off the line that says it is ready; a process that stays silent is killed."""
        assert self.popen.stdout is not None
        silent = threading.Timer(_START_SECONDS, self.popen.kill)
        silent.start()
        try:
            for line in self.popen.stdout:
                if found := _LISTENING.match(line):
                    return found[1]
        finally:
            silent.cancel()
        code = self.popen.wait(_STOP_SECONDS)
        raise AssertionError(f"it ended with {code} before it was ready:\n{self.errors()}")


@contextmanager
def running(
    service: str, folder: Path, environment: Mapping[str, str] | None = None, *, prefix: Sequence[str] = ()
) -> Iterator[Process]:
    """Run `python -m service` in `folder` on a free port; `prefix` is a command that execs it."""
    errors = folder / "stderr.log"
    with errors.open("a") as file:
        popen = subprocess.Popen(
            [*prefix, sys.executable, "-m", service],
            cwd=folder,
            env=environment_of(environment),
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    try:
        yield Process(popen, errors)
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait(_STOP_SECONDS)
        assert popen.stdout is not None
        popen.stdout.close()


def command(
    words: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m words…` in `folder` to its end."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment_of(environment),
        capture_output=True,
        text=True,
        timeout=_START_SECONDS,
        check=False,
    )


def refused(service: str, folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a service that should not start; returns its exit code and what it said."""
    ended = command([service], folder, environment)
    return ended.returncode, ended.stderr


def interrupted(service: str, folder: Path, seconds: float) -> tuple[int, str]:
    """Start a service, send Ctrl-C after `seconds`, whatever it is at; returns its exit code and what it said."""
    started = subprocess.Popen(
        [sys.executable, "-m", service], cwd=folder, env=environment_of(None), stderr=subprocess.PIPE, text=True
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.wait(seconds)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=_STOP_SECONDS)
    return started.returncode, errors


def environment_of(changes: Mapping[str, str] | None) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "PORT": "0", "OUTBOX_MIN_FREE_MB": "1", **(changes or {})}
