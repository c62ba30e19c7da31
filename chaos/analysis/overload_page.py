"""The report of an overload as a page: each figure with its aim, and whether it was reached."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from chaos.load.arrivals import CONNECTIONS, PEAK_CLIENTS
from tests.support.machine import describe

_GOODPUT, _REFUSAL_MS, _RECOVERY_SECONDS = 0.8, 50, 5
_OK, _REFUSED = "200", "503"
_NOTHING: Mapping[str, float] = {"rate": 0.0, "p99_ms": 0.0, "p50_ms": 0.0, "count": 0}
_PROFILES = {
    "local": "The local profile: one process, which sheds load itself, and SQLite.",
    "server": (
        "The server profile: HAProxy with the deployed rules, which sheds load, a gateway, inference, RabbitMQ, a "
        "recorder and PostgreSQL."
    ),
}


class Aim(NamedTuple):
    """A figure, its aim, and whether it was reached."""

    what: str
    figure: str
    aim: str
    reached: bool

    def __str__(self) -> str:
        return f"{self.what} {self.figure}, aimed at {self.aim}: {'reached' if self.reached else 'missed'}"


def aims(measurements: Mapping[str, Any]) -> list[Aim]:
    """Return the three aims for the `measurements` of one profile."""
    over, rest = measurements["overload"], measurements["after"]["recovered_after"]
    goodput = over["by_status"].get(_OK, _NOTHING)["rate"] / measurements["peak"]["by_status"][_OK]["rate"]
    refusal = over["by_status"].get(_REFUSED, _NOTHING)["p99_ms"]
    return [
        Aim("answers a second, of the peak:", f"{goodput:.2f}", f"{_GOODPUT} or more", goodput >= _GOODPUT),
        Aim("99 % of rejections within", f"{refusal:.1f} ms", f"{_REFUSAL_MS}", refusal <= _REFUSAL_MS),
        Aim(
            "99 % of a second's requests answered again after",
            f"{rest} s",
            f"{_RECOVERY_SECONDS}",
            rest <= _RECOVERY_SECONDS,
        ),
    ]


def failures(measurements: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts of one profile that must be 0, by name."""
    by_status = measurements["overload"]["by_status"]
    return {
        "lost": measurements["lost"],
        "rejected without Retry-After": measurements["overload"]["without_retry_after"],
        "failed otherwise": sum(
            figures["count"] for status, figures in by_status.items() if status not in {_OK, _REFUSED}
        ),
    }


def page(report: Mapping[str, Any]) -> str:
    """Return `report` as Markdown."""
    lines = [
        "# Three times the capacity",
        "",
        f"**{' '.join(_headline(name, measurements) for name, measurements in report['profiles'].items())}**",
        "",
        describe(report["machine"], "python -m chaos.scenarios.overload"),
        (
            f"Every answer is fsynced ({report['fsync_ms']:.2f} ms), and afterwards looked up in the database; the "
            f"load generator runs on the same cores. Peak: {PEAK_CLIENTS} clients in a closed loop. Overload: "
            f"{report['times']:g} times that rate in an open loop for {report['seconds']:g} s over {CONNECTIONS} "
            "connections. Before and after it: half of the peak."
        ),
        "",
    ]
    for name, measurements in report["profiles"].items():
        lines += [f"## {name.capitalize()}", "", _PROFILES[name], "", *_tables(measurements)]
    return "\n".join(lines)


def _headline(name: str, measurements: Mapping[str, Any]) -> str:
    failed = ", ".join(f"{count} {what}" for what, count in failures(measurements).items())
    return f"{name.capitalize()}: {failed}; {'; '.join(map(str, aims(measurements)))}."


def _tables(run: Mapping[str, Any]) -> Iterator[str]:
    yield "| | figure | aimed at | reached |"
    yield "|---|---|---|---|"
    for aim in aims(run):
        yield f"| {aim.what.rstrip(':')} | {aim.figure} | {aim.aim} | {'yes' if aim.reached else 'no'} |"
    for what, count in failures(run).items():
        yield f"| {what} | {count} | 0 | {'no' if count else 'yes'} |"
    yield from ("", "| phase | offered/s | status | responses/s | p50 ms | p99 ms |", "|---|---|---|---|---|---|")
    for phase in ("peak", "before", "overload", "after"):
        for status, figures in run[phase]["by_status"].items():
            yield (
                f"| {phase} | {run[phase]['offered_rate']:,.0f} | {status} | {figures['rate']:,.0f} "
                f"| {figures['p50_ms']:.1f} | {figures['p99_ms']:.1f} |"
            )
    over = run["overload"]
    yield ""
    yield (
        f"{run['answered']:,} requests were answered. During the overload the generator used "
        f"{run['generator_cpu']:.2f} of a core, sent 99 % of its requests at most {over['late_p99_ms']:.1f} ms late, "
        f"and had no free connection for {over['unsent']:,}. Seconds in which more than 1 % of the requests at half of "
        f"the peak were rejected, for example in a pause of the machine: {run['before']['bad_later']} before the "
        f"overload, {run['after']['bad_later']} after recovery."
    )
    yield ""
