"""The report of `bench.suites.scale`, and the same tables between the markers of docs/operations/scale.md."""

from collections.abc import Mapping
from typing import Any

from bench.lib.reports import table
from bench.suites.scale.plan import BUSY
from tests.support.machine import describe


class MarkerError(Exception):
    """Raised if the page has no markers for a block; the message names it."""


def headline(report: dict[str, Any]) -> str:
    """Return the result in a sentence or two."""
    first, limit = _first(report["carried"]["cluster"])
    return (
        f"At {BUSY:.0%} utilisation the overlay `cluster` carries {limit:,.0f} predictions/s ({first} first), and "
        f"100,000 a second need {report['needs'][-1]['cores']:,.0f} cores: rate times measured CPU time of each part."
    )


def page(report: dict[str, Any]) -> str:
    """Return the whole report."""
    parts = blocks(report)
    titles = {
        "costs": "What a prediction costs",
        "needs": "What a rate needs",
        "carried": "What the overlays carry",
    }
    lines = [
        "# Scale",
        "",
        "What the figures mean, and what follows: [docs/operations/scale.md](../operations/scale.md).",
        "",
    ]
    for name, title in titles.items():
        lines += [f"## {title}", "", parts[name], ""]
    return "\n".join([*lines, "![Replicas for a rate](scale.svg)", ""])


def blocks(report: dict[str, Any]) -> dict[str, str]:
    """Return each block by its name."""
    writers = {"costs": _costs, "needs": _needs, "carried": _carried}
    return {name: "\n".join(write(report)) for name, write in writers.items()}


def renewed(text: str, new: Mapping[str, str]) -> str:
    """Put each block of `new` between its markers in `text`.

    Raises:
        MarkerError: `text` lacks a block's markers.

    """
    for name, block in new.items():
        start, end = f"<!-- `python -m bench.suites.scale` writes {name} from here -->", f"<!-- {name} to here -->"
        if not 0 <= text.find(start) < text.find(end):
            raise MarkerError(f"no place for {name}: {start} … {end}")
        before, rest = text.split(start, 1)
        text = f"{before}{start}\n{block}\n{end}{rest.split(end, 1)[1]}"
    return text


def _costs(report: dict[str, Any]) -> list[str]:
    costs = report["costs"]
    micro = [
        ("gateway, with relay", "gateway"),
        ("inference, whose calls take several patients", "inference"),
        ("RabbitMQ, one node", "broker"),
        ("recorder", "recorder"),
        ("PostgreSQL", "database"),
    ]
    sizes = [
        ("event on the broker", "event_bytes"),
        ("row in PostgreSQL, with its indexes", "row_bytes"),
        ("written ahead (WAL) for it", "log_bytes"),
        ("in the gateway, of a request with `Idempotency-Key`, while its answer is kept", "kept_bytes"),
    ]
    return [
        *table(
            ["part", "for one prediction"],
            [
                *([name, f"{costs[key] * 1e6:,.0f} µs of CPU"] for name, key in micro),
                *([name, f"{costs[key]:,.0f} bytes"] for name, key in sizes),
            ],
        ),
        "",
        f"Bytes: {describe(report['machine'], 'python -m bench.suites.scale')}",
        "",
        f"CPU, under load: {describe(report['server_machine'])}",
    ]


def _needs(report: dict[str, Any]) -> list[str]:
    needs = report["needs"]
    rows = [
        ("gateway replicas", [f"{each['gateways']:,}" for each in needs]),
        ("inference replicas", [f"{each['inference']:,}" for each in needs]),
        ("recorder replicas", [f"{each['recorders']:,}" for each in needs]),
        ("cores for RabbitMQ, of each node at most", [f"{each['broker_cores']:,.2f}" for each in needs]),
        ("cores for PostgreSQL's primary", [f"{each['database_cores']:,.2f}" for each in needs]),
        ("cores in all", [f"{each['cores']:,.0f}" for each in needs]),
        ("messages/s into RabbitMQ", [f"{each['messages']:,.0f}" for each in needs]),
        ("MB/s into RabbitMQ, on each of three disks", [f"{each['into_broker'] / 1e6:,.2f}" for each in needs]),
        ("MB/s of PostgreSQL's write-ahead log", [f"{each['log'] / 1e6:,.2f}" for each in needs]),
        ("GB of rows a year", [f"{each['stored_a_year'] / 1e9:,.0f}" for each in needs]),
    ]
    return [
        *table(
            ["predictions a second", *(f"{each['rate']:,.0f}" for each in needs)], [[name, *row] for name, row in rows]
        ),
        "",
        (
            f"Replicas work at most {BUSY:.0%} of their time. Add one of each for the loss of one; HAProxy and the "
            "standbys of PostgreSQL are not counted."
        ),
    ]


def _carried(report: dict[str, Any]) -> list[str]:
    carried, full = report["carried"], report["days_until_full"]
    parts = [
        ("gateways, predictions/s", "gateways"),
        ("inference, predictions/s", "inference"),
        ("the one queue's leader, predictions/s", "queue"),
        ("recorders, predictions/s", "recorders"),
    ]
    return table(
        ["busy to that share at", *carried],
        [
            *([label, *(f"{each[key]:,.0f}" for each in carried.values())] for label, key in parts),
            ["breaks first", *(_first(each)[0] for each in carried.values())],
            *(
                [
                    f"days of {int(rate):,}/s until {what} is full",
                    *(_days(each[rate][name]) for each in full.values()),
                ]
                for name, what in (("database", "the database's volume"), ("gateway", "a gateway's, with keys,"))
                for rate in ("10", "1000")
            ),
        ],
    )


def _days(days: float | None) -> str:
    return "never" if days is None else f"{days:,.1f}"


def _first(carried: Mapping[str, float]) -> tuple[str, float]:
    return min(carried.items(), key=lambda each: each[1])
