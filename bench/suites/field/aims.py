"""What is aimed at against the others, and the figures to hold against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.suites.field.competitors import SKLEARN
from bench.suites.field.measuring import CARRIED, RATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

AT = 32
"""Connections at which the aims are set."""
TIMES = {"mlflow": 10.0, "bentoml": 3.0, "litserve": 3.0, "ray": 3.0, "mlserver": 1.5}
"""How many times as many requests per second."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of one contender."""

    name: str
    seen: dict[str, Any]

    @property
    def title(self) -> str:
        """What it is called."""
        return str(self.seen["title"])

    @property
    def model(self) -> str:
        """In which form it serves the model."""
        return str(self.seen["model"])

    @property
    def label(self) -> str:
        """What it is called, and in which form it serves the model."""
        return f"{self.title} ({self.model})"

    @property
    def rate(self) -> float:
        """Requests per second at `AT` connections."""
        return float(self.closed(AT)["rate"])

    @property
    def memory(self) -> float:
        """MiB."""
        return float(self.seen["pss_mib"])

    @property
    def processes(self) -> int:
        """How many it runs."""
        return int(self.seen["processes"])

    @property
    def ready(self) -> float:
        """Seconds until it answered."""
        return float(self.seen["ready_seconds"])

    @property
    def failed(self) -> int:
        """Requests of all loads that were not answered with success."""
        return sum(point["load"]["failed"] for point in self.seen["points"])

    def closed(self, connections: int) -> dict[str, Any]:
        """Give the load of `connections` that ask as fast as they are answered."""
        return dict(self._point(connections)["load"])

    def cpu(self, connections: int) -> float:
        """CPU seconds per thousand requests of that load."""
        return float(self._point(connections)["cpu_per_thousand"])

    def at_rate(self, rate: int) -> dict[str, Any] | None:
        """Give the load of `rate` requests per second, if it was carried."""
        for point in self.seen["points"]:
            if point["offered"] == rate and point["load"]["rate"] >= CARRIED * rate and not point["load"]["failed"]:
                return dict(point["load"])
        return None

    def _point(self, connections: int) -> dict[str, Any]:
        return next(
            point for point in self.seen["points"] if point["connections"] == connections and point["offered"] is None
        )


def results(report: dict[str, Any]) -> list[Result]:
    """Give all who could be measured, in the order of the report."""
    return [Result(name, seen) for name, seen in report["contenders"].items() if "error" not in seen]


def judged_p99(measured: Sequence[Result]) -> Iterator[tuple[int, Result, bool]]:
    """Compare the local profile at equal rates: rate, whom with, and whether its p99 is worse."""
    ours, *others = (one for one in measured if one.name != "server")
    for rate in RATES:
        mine = ours.at_rate(rate)
        for their in others:
            if mine and (seen := their.at_rate(rate)):
                yield rate, their, mine["p99_ms"] > seen["p99_ms"]


def aims(measured: Sequence[Result]) -> list[tuple[str, str, str, bool]]:
    """Hold the local profile against all others: what, figure, aim, and whether it is reached."""
    ours = next(one for one in measured if one.name == "local")
    held = []
    for one in measured:
        aim = TIMES.get(one.name.partition("-")[0])
        if aim is not None:
            form = "" if one.model == SKLEARN else ", with our ONNX file"
            times = ours.rate / one.rate
            held.append((f"{one.title}{form}", f"{times:.1f}", f"≥ {aim:g}", times >= aim))
    compared = list(judged_p99(measured))
    worse = sum(worse for *_, worse in compared)
    figure = f"{len(compared) - worse} of {len(compared)}"
    return [*held, ("p99 at equal rates is not higher", figure, "all", worse == 0)]
