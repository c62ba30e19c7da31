"""Measures one contender: alone, warmed, right."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bench.lib.wrk import load
from bench.suites.field.contenders import ask
from tests.support.processes import cpu_seconds, total

if TYPE_CHECKING:
    from pathlib import Path

    import psutil

    from bench.lib.wrk import Load
    from bench.suites.field.asking import Questions
    from bench.suites.field.contenders import Contender, MeasuredServer

CONNECTIONS = (1, 8, 32, 128)
RATES = (50, 500, 2000)
"""Requests per second, the same for all who can carry them, over `AT_RATE` connections."""
AT_RATE = 32
CARRIED = 0.95
"""Of the rate: with less the server was asked less than the others."""
SAME = 1e-4
"""Probabilities that differ by more come from another model."""
_CHECKED = 40
_WARMING = (8, 2)


@dataclass(frozen=True, slots=True)
class Point:
    """One load, and the CPU that the server, with all its processes, took for it."""

    connections: int
    offered: int | None
    load: Load
    cpu_per_thousand: float
    """Seconds per thousand requests."""


def measure(contender: Contender, questions: Questions, home: Path, seconds: int) -> dict[str, Any]:
    """Start it in `home`, ask, stop it; RuntimeError if it does not start or gives wrong answers."""
    home.mkdir()
    with contender.open(home) as asked:
        off = max(
            questions.off(number, asked.read(ask(asked.server.port, asked.target, asked.body(number))))
            for number in range(_CHECKED)
        )
        if off > SAME:
            raise RuntimeError(f"its probabilities are off by {off:.2g}: this is not the same model")
        bodies = questions.write(home / "bodies.jsonl", asked.body)
        points = [_point(asked, bodies, *_WARMING)]
        points += [_point(asked, bodies, connections, seconds) for connections in CONNECTIONS]
        memory = _pss_mib(asked.processes())
        most = max(point.load.rate for point in points)
        points += [_point(asked, bodies, AT_RATE, seconds, rate) for rate in RATES if rate < most]
        return {
            "title": contender.title,
            "model": contender.model,
            "off": off,
            "ready_seconds": asked.server.ready_seconds,
            "pss_mib": memory,
            "processes": len(asked.processes()),
            "points": [asdict(point) for point in points[1:]],
            "kept": asked.kept() if asked.kept else None,
        }


def _point(asked: MeasuredServer, bodies: Path, connections: int, seconds: int, rate: int | None = None) -> Point:
    before = total(asked.processes(), cpu_seconds)
    seen = load(asked.server, bodies, connections=connections, seconds=seconds, path=asked.target, rate=rate)
    cpu = total(asked.processes(), cpu_seconds) - before
    return Point(connections, rate, seen, cpu / max(seen.requests, 1) * 1000)


def _pss_mib(processes: list[psutil.Process]) -> float:
    """Sum up the proportional set sizes: pages that processes share are counted once."""
    return total(processes, lambda each: float(each.memory_full_info().pss)) / 2**20
