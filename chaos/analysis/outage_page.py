"""The report of an outage as a page."""

from collections.abc import Mapping
from typing import Any

from tests.support.machine import describe

_AIMED_RATE = 500


def page(report: Mapping[str, Any]) -> str:
    """Return `report` as a page of Markdown."""
    verdict, drain = report["verdict"], report["drain"]
    failed, wrong = sum(verdict["failed"].values()), verdict["duplicated"] + verdict["altered"]
    lines = [
        f"# Without the {report['without']} for {report['seconds'] / 60:g} minutes",
        "",
        describe(
            report["machine"],
            f"python -m chaos.scenarios.outage {report['without']} --minutes {report['seconds'] / 60:g}",
        ),
        (
            "Two gateways, two inference replicas, two recorders, HAProxy, RabbitMQ, PostgreSQL and a client with "
            f"{report['rate']:g} requests a second share these cores. One fsync takes {report['fsync_ms']:.2f} ms."
        ),
        "",
        (
            f"**{failed:,} failed, {verdict['lost']:,} lost of {verdict['answered']:,} answers**: {drain['backlog']:,} "
            f"waited at the end of the outage, and at most one second's answers {drain['seconds']:.1f} s later."
        ),
        "",
        "| | figure | aimed at | reached |",
        "|---|---|---|---|",
        *(
            f"| {what} | {figure} | {aim} | {'yes' if reached else 'no'} |"
            for what, figure, aim, reached in (
                ("failed requests", f"{failed:,}", "0", not failed),
                ("answered and not recorded", f"{verdict['lost']:,}", "0", not verdict["lost"]),
                ("duplicated or altered rows", f"{wrong:,}", "0", not wrong),
                ("dead-lettered messages", f"{report['dead_lettered']:,}", "0", not report["dead_lettered"]),
                ("events in quarantine", f"{report['quarantined']:,}", "0", not report["quarantined"]),
                (
                    "rows/s after the outage, under load",
                    f"{drain['rate']:,.0f}",
                    f"≥ {_AIMED_RATE}",
                    drain["rate"] >= _AIMED_RATE,
                ),
            )
        ),
        "",
        "| phase | seconds | answers/s | p50 ms | p99 ms | failed |",
        "|---|---|---|---|---|---|",
        *(_row(phase) for phase in report["phases"]),
        "",
    ]
    return "\n".join(lines)


def _row(phase: Mapping[str, Any]) -> str:
    times = " | ".join("" if phase[name] is None else f"{phase[name]:.1f}" for name in ("p50_ms", "p99_ms"))
    failed = ", ".join(f"{kind}: {number}" for kind, number in phase["failed"].items()) or "0"
    return f"| {phase['phase']} | {phase['seconds']:.0f} | {phase['answers_per_second']:.0f} | {times} | {failed} |"
