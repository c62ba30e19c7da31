"""Aims of the comparison with other servers, and the figures that are compared with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.suites.field.competitors import SKLEARN
from bench.suites.field.measurement import CARRIED, RATES

AT = 32
"""Connections at which the aims are set."""
TIMES = {"mlflow": 10.0, "bentoml": 3.0, "litserve": 3.0, "ray": 3.0, "mlserver": 1.5}
"""Aimed ratio of requests per second, by tool."""


@dataclass(frozen=True, slots=True)
class Result:
    """Measurements of one contender."""

    name: str
    measurements: dict[str, Any]

    @property
    def title(self) -> str:
        """The contender's name, without its model."""
        return str(self.measurements["title"])

    @property
    def model(self) -> str:
        """Format of the model that it serves."""
        return str(self.measurements["model"])

    @property
    def label(self) -> str:
        """The contender's name, with the format of its model."""
        return f"{self.title} ({self.model})"

    @property
    def rate(self) -> float:
        """Requests per second at `AT` connections."""
        return float(self.closed(AT)["rate"])

    @property
    def memory(self) -> float:
        """Memory, in MiB."""
        return float(self.measurements["pss_mib"])

    @property
    def processes(self) -> int:
        """Number of its processes."""
        return int(self.measurements["processes"])

    @property
    def ready(self) -> float:
        """Seconds from its start to its first answer."""
        return float(self.measurements["ready_seconds"])

    @property
    def failed(self) -> int:
        """Number of failed requests, over all loads."""
        return sum(point["load"]["failed"] for point in self.measurements["points"])

    def closed(self, connections: int) -> dict[str, Any]:
        """Return the load of `connections` that send without pause."""
        return dict(self._point(connections)["load"])

    def cpu(self, connections: int) -> float:
        """CPU seconds per thousand requests of that load."""
        return float(self._point(connections)["cpu_per_thousand"])

    def at_rate(self, rate: int) -> dict[str, Any] | None:
        """Return the load of `rate` requests per second, or None if the server did not reach that rate."""
        for point in self.measurements["points"]:
            if point["offered"] == rate and point["load"]["rate"] >= CARRIED * rate and not point["load"]["failed"]:
                return dict(point["load"])
        return None

    def _point(self, connections: int) -> dict[str, Any]:
        return next(
            point
            for point in self.measurements["points"]
            if point["connections"] == connections and point["offered"] is None
        )


def results(report: dict[str, Any]) -> list[Result]:
    """Return the result of every measured contender, in the order of the report."""
    return [
        Result(name, measurements) for name, measurements in report["contenders"].items() if "error" not in measurements
    ]


def judged_p99(measured: Sequence[Result]) -> Iterator[tuple[int, Result, bool]]:
    """Compare the local profile's p99 at equal rates: yields the rate, the other server, and whether ours is worse."""
    ours, *others = (one for one in measured if one.name != "server")
    for rate in RATES:
        own = ours.at_rate(rate)
        for other in others:
            if own and (measurements := other.at_rate(rate)):
                yield rate, other, own["p99_ms"] > measurements["p99_ms"]


def aims(measured: Sequence[Result]) -> list[tuple[str, str, str, bool]]:
    """Return the aims of the local profile: name, figure, aim, and whether it is reached."""
    ours = next(one for one in measured if one.name == "local")
    verdicts = []
    for one in measured:
        aim = TIMES.get(one.name.partition("-")[0])
        if aim is not None:
            form = "" if one.model == SKLEARN else ", with our ONNX file"
            times = ours.rate / one.rate
            verdicts.append((f"{one.title}{form}", f"{times:.1f}", f"≥ {aim:g}", times >= aim))
    compared = list(judged_p99(measured))
    worse = sum(worse for *_, worse in compared)
    figure = f"{len(compared) - worse} of {len(compared)}"
    return [*verdicts, ("p99 at equal rates is not higher", figure, "all", worse == 0)]
