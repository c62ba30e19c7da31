"""Processes under test: start, wait until ready, signal, measure, stop.

Tests, benchmarks and the fault rig start our services with these functions. Each process has a port of its own, and an
environment without the settings of the shell that started it.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from tests.support import plain_http
from tests.support.paths import ROOT
from tests.support.ports import free_ports
from tests.support.waiting import until_now

LISTENING = re.compile(r"^(?:ready|listening) on (http://\S+)", re.MULTILINE)
"""The line that a service prints when it is ready; the group is its URL."""
START_SECONDS = 120
STOP_SECONDS = 60
_CHILD_STOP_SECONDS = 5


class Process:
    """A running server: where it listens, and the seconds from its start until it was ready."""

    start_line = ""
    """The line that one of our services prints when it listens."""

    def __init__(self, popen: subprocess.Popen[Any], url: str, log: Path, ready_seconds: float) -> None:
        self.popen, self.url, self.ready_seconds, self._log = popen, url, ready_seconds, log

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80

    @cached_property
    def process(self) -> psutil.Process:
        """Handle to measure its CPU and memory."""
        return psutil.Process(self.popen.pid)

    @property
    def rss_mib(self) -> float:
        """Resident memory, in MiB."""
        return float(self.process.memory_info().rss) / 2**20

    def get(self, path: str) -> httpx.Response:
        return plain_http.get(self.url + path)

    def read(self, path: str) -> bytes:
        """Return the body of GET `path`; costs less CPU than `get`, for polling beside a measurement."""
        with urllib.request.urlopen(self.url + path, timeout=10) as response:  # noqa: S310 - a server of ours
            content: bytes = response.read()
        return content

    def metric(self, name: str) -> int:
        """Return the value of the metric `name`, which has no labels."""
        lines = self.read("/metrics").decode().splitlines()
        return int(float(next(line.split()[1] for line in lines if line.startswith(f"{name} "))))

    def errors(self) -> str:
        """Return what it has logged."""
        return self._log.read_text()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(STOP_SECONDS)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Send `signum` and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after `STOP_SECONDS`.

        """
        self.popen.send_signal(signum)
        return self.popen.wait(STOP_SECONDS)


@contextmanager
def running(
    service: str, folder: Path, environment: Mapping[str, str] | None = None, *, prefix: Sequence[str] = ()
) -> Iterator[Process]:
    """Run one of our services, `python -m service`, in `folder`; yields it when it has printed that it listens.

    `prefix` is a command that execs it. At the end it is killed: no test needs an orderly stop, unless it stops it.
    """
    started = time.perf_counter()
    log = folder / "stderr.log"
    command = [*prefix, sys.executable, "-m", service]
    popen = spawn(command, folder, service_environment(environment), log, announces=True)
    try:
        start = _start_line(popen, log)
        process = Process(popen, start[1], log, time.perf_counter() - started)
        process.start_line = start.string.strip()
        yield process
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait(STOP_SECONDS)
        assert popen.stdout is not None
        popen.stdout.close()


@contextmanager
def serving(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    is_ready: Callable[[int], bool] | None = None,
) -> Iterator[Process]:
    """Run any server, `command` in `folder`; yields it when it is ready. `{port}` and `PORT` are a free port.

    It is ready when `is_ready(port)` returns true; by default, when /health/ready does. At the end it is stopped.

    Raises:
        RuntimeError: it ended, or was not ready within `START_SECONDS`.

    """
    started = time.perf_counter()
    [port] = free_ports(1)
    log = folder / "server.log"
    command = [part.format(port=port) for part in command]
    popen = spawn(command, folder, clean_environment({"PORT": str(port), **(environment or {})}), log)
    try:
        with contextlib.suppress(TimeoutError):
            until_now(lambda: popen.poll() is not None or (is_ready or _is_ready)(port), seconds=START_SECONDS)
        if popen.poll() is not None or not (is_ready or _is_ready)(port):
            raise RuntimeError(f"{command}: did not get ready:\n{log.read_text()[-2000:]}")
        yield Process(popen, f"http://127.0.0.1:{port}", log, time.perf_counter() - started)
    finally:
        stop(popen)


def spawn(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str], log: Path, *, announces: bool = False
) -> subprocess.Popen[Any]:
    """Start `command` in `folder`; its output is appended to `log`, except for the stdout of one that `announces`."""
    with log.open("a") as file:
        stdout = subprocess.PIPE if announces else file
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=stdout, stderr=file, text=announces)


def stop(popen: subprocess.Popen[Any]) -> None:
    """Stop a process by SIGTERM, and kill what still runs of it and its children after a deadline."""
    members = family(psutil.Process(popen.pid)) if popen.poll() is None else []
    popen.terminate()
    try:
        popen.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait(STOP_SECONDS)
    for member in psutil.wait_procs(members, timeout=_CHILD_STOP_SECONDS)[1]:
        member.kill()


def command(
    words: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m words…` in `folder` to its end."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=service_environment(environment),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def refused(service: str, folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a service that should not start; return its exit code and its log."""
    ended = command([service], folder, environment)
    return ended.returncode, ended.stderr


def interrupted(service: str, folder: Path, seconds: float) -> tuple[int, str]:
    """Start a service and send Ctrl-C after `seconds`; return its exit code and its log."""
    started = subprocess.Popen(
        [sys.executable, "-m", service], cwd=folder, env=service_environment(None), stderr=subprocess.PIPE, text=True
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.wait(seconds)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=STOP_SECONDS)
    return started.returncode, errors


def clean_environment(changes: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment of a process: what any program needs of ours, our code, and `changes`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), **(changes or {})}


def service_environment(changes: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment of a service in a test: a port that the system chooses, and little room on the disk."""
    return clean_environment({"PORT": "0", "OUTBOX_MIN_FREE_MB": "1", **(changes or {})})


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return `process` and all its running descendants."""
    return [process, *process.children(recursive=True)]


def total(processes: Iterable[psutil.Process], figure: Callable[[psutil.Process], float]) -> float:
    """Sum up a `figure` of `processes`; those that have ended count as 0."""
    result = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            result += figure(process)
    return result


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time that `process` alone, without its children, has used, in seconds."""
    return float(sum(process.cpu_times()[:2]))


def _start_line(popen: subprocess.Popen[str], log: Path) -> re.Match[str]:
    """Return the line that a service prints when it listens, matched; a process without that line is killed."""
    assert popen.stdout is not None
    deadline = threading.Timer(START_SECONDS, popen.kill)
    deadline.start()
    try:
        for line in popen.stdout:
            if match := LISTENING.match(line):
                return match
    finally:
        deadline.cancel()
    code = popen.wait(STOP_SECONDS)
    raise AssertionError(f"it ended with {code} before it was ready:\n{log.read_text()}")


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
