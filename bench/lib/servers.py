"""Starts one server under test on a free port, loads it, and stops it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

ROOT = Path(__file__).parents[2]
_START_SECONDS = 120
_STOP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: `ready_seconds` from start until it answered that it was ready."""

    port: int
    process: psutil.Process
    ready_seconds: float

    def get(self, path: str) -> bytes:
        """GET `path`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            content: bytes = response.read()
        return content

    @property
    def rss_mib(self) -> float:
        """Resident memory, in MiB."""
        return float(self.process.memory_info().rss) / 2**20


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of the load generator saw; CPU is the server's own, per request."""

    requests: int
    failed: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@contextmanager
def running(
    command: list[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    is_ready: Callable[[int], bool] | None = None,
) -> Iterator[Server]:
    """Start `command` in `folder`, where `{port}` stands for a free port; stop it, and what it started, at the end.

    It is ready when it says so on /health/ready, or when `is_ready`, given its port, does.
    """
    port = _free_port()
    command = [part.format(port=port) for part in command]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PORT": str(port), **(environment or {})}
    started = time.perf_counter()
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        while not (is_ready or _is_ready)(port):
            if process.poll() is not None or time.perf_counter() - started > _START_SECONDS:
                raise RuntimeError(f"{command}: did not get ready:\n{(folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.01)
        yield Server(port, psutil.Process(process.pid), time.perf_counter() - started)
    finally:
        members = family(psutil.Process(process.pid)) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            for each in psutil.wait_procs(members, timeout=_STOP_SECONDS)[1]:
                each.kill()


def family(process: psutil.Process) -> list[psutil.Process]:
    """Give `process` and all that it started, directly or not, and that still run."""
    return [process, *process.children(recursive=True)]


def total(processes: Iterable[psutil.Process], figure: Callable[[psutil.Process], float]) -> float:
    """Sum up a `figure` of `processes`; those that have ended since they were found have none."""
    found = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found += figure(process)
    return found


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time that `process` alone has used up to now."""
    return float(sum(process.cpu_times()[:2]))


def load(  # noqa: PLR0913 - each is one fact of the load
    server: Server, patients: Path, *, connections: int, seconds: int, path: str = "/predecir", rate: int | None = None
) -> Load:
    """Load `server` with wrk: `connections` clients, each sending the next patient as soon as it was answered.

    With `rate`, in requests per second, they send them at even distances instead, as long as one of them is free.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(Path(__file__).with_name("load.lua"))]
    before = sum(server.process.cpu_times()[:2])
    run = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}"],
        env={**os.environ, "PATIENTS": str(patients), "TARGET": path, "RATE": str(rate or "")},
        capture_output=True,
        check=True,
        text=True,
    )
    cpu = sum(server.process.cpu_times()[:2]) - before
    seen = json.loads(run.stdout.rpartition("JSON ")[2])
    return Load(
        requests=seen["requests"],
        failed=seen["failed"],
        rate=seen["requests"] / seen["seconds"],
        p50_ms=seen["p50_ms"],
        p99_ms=seen["p99_ms"],
        cpu_us=cpu / max(seen["requests"], 1) * 1e6,
    )


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
