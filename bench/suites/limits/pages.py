"""The report on the limits, as a page and as plots: the CPU time of each stage of a request."""

from typing import Any

from bench.lib.plots import Panel, stacked
from bench.lib.reports import table
from bench.suites.limits.stages import RECORDING, WHOLE
from tests.support.machine import describe

HTTP = "HTTP: sockets, parsing, writing"
FRAMEWORK = "FastAPI: routing, validation, answer"
REST = "not accounted for"
_SERVERS = {
    "nothing": "HTTP alone: the same server, an application without work",
    "ceiling": "ceiling: FastAPI, the same validation, no work",
    "local": "local profile: every answer on disk first, then recorded",
}


def accounted(report: dict[str, Any], connections: str, clock: str) -> dict[str, float]:
    """Return the microseconds of each stage: CPU time (`cpu_us`), or wall-clock time (`wall_us`) of the awaited stages.

    With HTTP first and the remainder as REST they sum up to the total of the local profile for a request. REST is
    negative where the stages took longer one by one than together.
    """
    alone, all_of_it = (_taken(report["servers"][name][connections], clock) for name in ("nothing", "local"))
    costs = {name: cost[clock] for name, cost in report["stages"][connections].items()}
    whole = costs.pop(WHOLE)
    if clock == "wall_us":
        del costs[RECORDING]
    return {HTTP: alone, **costs, REST: all_of_it - alone - whole}


def page(report: dict[str, Any]) -> str:
    """Return the page."""
    together, alone = accounted(report, "32", "cpu_us"), accounted(report, "1", "wall_us")
    sums = sum(together.values()), sum(alone.values())
    lines = [
        "# Limits",
        "",
        "![Time of each stage of a request](limits.svg)",
        "",
        "## Time of each stage of a request",
        "",
        (
            "CPU time of one request at 32 connections, in all threads of the process, and wall time of one request at "
            "one connection. HTTP is measured from outside, with an application that does nothing. Each stage is "
            "measured alone, with the product's functions and one caller per connection. The event loop's part is the "
            "time of the whole path minus its stages. The rest of the time measured from outside is not accounted for "
            "(negative: the stages take longer alone than together). No answer waits for the recording."
        ),
        "",
        *table(
            ["stage", "CPU µs, 32 connections", "share", "µs on the clock, alone", "share"],
            [
                [
                    name,
                    f"{together[name]:.1f}",
                    f"{together[name] / sums[0]:.0%}",
                    *([f"{alone[name]:.1f}", f"{alone[name] / sums[1]:.0%}"] if name in alone else ["", ""]),
                ]
                for name in together
            ],
        ),
        f"| **in all** | {sums[0]:.1f} | | {sums[1]:.1f} | |",
        "",
        "## The ceiling",
        "",
        *table(
            ["server", "connections", "requests/s", "p50 ms", "p99 ms", "CPU µs/request"],
            [
                [
                    description,
                    connections,
                    f"{run['rate']:,.0f}",
                    f"{run['p50_ms']:.2f}",
                    f"{run['p99_ms']:.2f}",
                    f"{run['cpu_us']:.0f}",
                ]
                for name, description in _SERVERS.items()
                for connections, run in report["servers"][name].items()
            ],
        ),
        "",
        "## The disk's floor",
        "",
        *table(
            ["", "p50 ms", "p99 ms", "answers/s at most, one after the other"],
            [
                [
                    each["what"],
                    f"{each['p50_ms']:.3f}",
                    f"{each['p99_ms']:.3f}",
                    f"{each['events'] / each['p50_ms'] * 1000:,.0f}",
                ]
                for each in report["disk"]
            ],
        ),
        "",
        describe(report["machine"]),
        "",
    ]
    return "\n".join(lines)


def headline(report: dict[str, Any]) -> str:
    """Return the limits in a few sentences."""
    rates = {name: report["servers"][name]["32"]["rate"] for name in _SERVERS}
    together = accounted(report, "32", "cpu_us")
    most = sorted((name for name in together if name != REST), key=together.__getitem__, reverse=True)[:3]
    costs = "; ".join(f"{name}, {together[name]:.0f}" for name in most)
    sync = report["disk"][0]
    return (
        f"At 32 connections HTTP alone gives {rates['nothing']:,.0f} requests/s, FastAPI with the same validation "
        f"{rates['ceiling']:,.0f}, the local profile {rates['local']:,.0f}. Of its {sum(together.values()):.0f} µs of "
        f"CPU a request most go to: {costs}. One fdatasync takes {sync['p50_ms']:.2f} ms (p99 {sync['p99_ms']:.2f})."
    )


def picture(report: dict[str, Any]) -> list[Panel]:
    """Draw the stages by CPU time and by wall-clock time."""
    ceiling = report["servers"]["ceiling"]
    http = {connections: _taken(run, "cpu_us") for connections, run in report["servers"]["nothing"].items()}
    rows = {
        "local": accounted(report, "32", "cpu_us"),
        "ceiling": {HTTP: http["32"], FRAMEWORK: max(0.0, ceiling["32"]["cpu_us"] - http["32"])},
    }
    return [
        stacked(
            "One of many, 32 connections", "CPU µs a request", {name: _drawable(row) for name, row in rows.items()}
        ),
        stacked("One alone", "µs on the clock", {"local": _drawable(accounted(report, "1", "wall_us"))}),
    ]


def _taken(run: dict[str, float], clock: str) -> float:
    return run["cpu_us"] if clock == "cpu_us" else run["p50_ms"] * 1000


def _drawable(row: dict[str, float]) -> dict[str, float]:
    return {name: max(0.0, figure) for name, figure in row.items()}
