"""Load generator of the benchmarks: wrk, a closed loop in C, for peak rates.

An asyncio client (`tests.support.load`) uses as much CPU per request as the server, and would halve the peak.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Process, cpu_seconds


@dataclass(frozen=True, slots=True)
class Load:
    """Result of one run of wrk. `rate` is in requests per second, `cpu_us` the server's CPU time per request."""

    requests: int
    failed: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def load(  # noqa: PLR0913 - each is one parameter of the load
    server: Process, patients: Path, *, connections: int, seconds: int, path: str = "/predecir", rate: int | None = None
) -> Load:
    """Run wrk on `server` for `seconds`: each of `connections` sends the next patient after each answer.

    With `rate`, in requests per second, requests are sent at even intervals while a connection is free.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(Path(__file__).with_name("load.lua"))]
    before = cpu_seconds(server.process)
    run = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}"],
        env={**os.environ, "PATIENTS": str(patients), "TARGET": path, "RATE": str(rate or "")},
        capture_output=True,
        check=True,
        text=True,
    )
    cpu = cpu_seconds(server.process) - before
    result = json.loads(run.stdout.rpartition("JSON ")[2])
    return Load(
        requests=result["requests"],
        failed=result["failed"],
        rate=result["requests"] / result["seconds"],
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        cpu_us=cpu / max(result["requests"], 1) * 1e6,
    )
