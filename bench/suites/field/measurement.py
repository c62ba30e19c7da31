"""Measurement of one contender: alone, warmed, and with its answers checked."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.lib.wrk import Load, load
from bench.suites.field.contenders import Contender, MeasuredServer, ask
from bench.suites.field.sample_requests import SampleRequests
from tests.support.processes import cpu_seconds, total

CONNECTIONS = (1, 8, 32, 128)
RATES = (50, 500, 2000)
"""Requests per second, the same for every server that can reach them, over `AT_RATE` connections."""
AT_RATE = 32
CARRIED = 0.95
"""Smallest share of a rate that counts as that rate."""
SAME = 1e-4
"""Largest difference of a probability; a larger one shows another model."""
_CHECKED = 40
_WARMING = (8, 2)


@dataclass(frozen=True, slots=True)
class Point:
    """One load, and the CPU time of all processes of the server for it."""

    connections: int
    offered: int | None
    load: Load
    cpu_per_thousand: float
    """Seconds per thousand requests."""


def measure(contender: Contender, requests: SampleRequests, home: Path, seconds: int) -> dict[str, Any]:
    """Start the contender in `home`, load it and stop it; return its measurements.

    Raises:
        RuntimeError: it does not start, or gives wrong answers.

    """
    home.mkdir()
    with contender.open(home) as measured:
        difference = max(
            requests.difference(
                number, measured.read(ask(measured.server.port, measured.target, measured.body(number)))
            )
            for number in range(_CHECKED)
        )
        if difference > SAME:
            raise RuntimeError(f"its probabilities are off by {difference:.2g}: this is not the same model")
        bodies = requests.write(home / "bodies.jsonl", measured.body)
        points = [_point(measured, bodies, *_WARMING)]
        points += [_point(measured, bodies, connections, seconds) for connections in CONNECTIONS]
        memory = _pss_mib(measured.processes())
        most = max(point.load.rate for point in points)
        points += [_point(measured, bodies, AT_RATE, seconds, rate) for rate in RATES if rate < most]
        return {
            "title": contender.title,
            "model": contender.model,
            "off": difference,
            "ready_seconds": measured.server.ready_seconds,
            "pss_mib": memory,
            "processes": len(measured.processes()),
            "points": [asdict(point) for point in points[1:]],
            "kept": measured.kept() if measured.kept else None,
        }


def _point(measured: MeasuredServer, bodies: Path, connections: int, seconds: int, rate: int | None = None) -> Point:
    before = total(measured.processes(), cpu_seconds)
    result = load(measured.server, bodies, connections=connections, seconds=seconds, path=measured.target, rate=rate)
    cpu = total(measured.processes(), cpu_seconds) - before
    return Point(connections, rate, result, cpu / max(result.requests, 1) * 1000)


def _pss_mib(processes: list[psutil.Process]) -> float:
    """Return the sum of the proportional set sizes: pages that processes share are counted once."""
    return total(processes, lambda each: float(each.memory_full_info().pss)) / 2**20
