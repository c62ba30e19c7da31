"""The report of a chaos run as a page."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.machine import describe

_PARTS = {
    "server": "Two gateways, two inference replicas, two recorders, HAProxy, RabbitMQ and PostgreSQL",
    "local": "One process of `services.local` and its SQLite files",
}
_MEASURES = ("restarted", "answered", "drained")


def summary(report: Mapping[str, Any]) -> str:
    """Return `report` as a page of Markdown."""
    return "\n".join([*_head(report), *_requests(report), *_faults(report), *_rest(report), ""])


def _head(report: Mapping[str, Any]) -> Iterator[str]:
    plan, verdict = report["plan"], report["verdict"]
    yield f"# {report['profile'].capitalize()} profile under faults"
    yield ""
    yield describe(report["machine"], "python -m chaos")
    yield (
        f"{_PARTS[report['profile']]} share these cores with "
        f"{plan['clients']} client processes of {plan['connections']} connections. One fsync takes "
        f"{report['fsync_ms']:.2f} ms. Seed {plan['seed']}, {plan['seconds']:.0f} s of faults."
    )
    yield ""
    yield (
        f"**{verdict['lost']} lost and {verdict['duplicated']} duplicated in {report['kills']} kills**: "
        f"{verdict['answered']:,} answers ({report['answers_per_second']:,.0f}/s), {verdict['recorded']:,} rows."
    )


def _requests(report: Mapping[str, Any]) -> Iterator[str]:
    verdict = report["verdict"]
    failed = ", ".join(f"{kind} {number:,}" for kind, number in verdict["failed"].items()) or "none"
    yield ""
    yield "| quantity | number |"
    yield "|---|---|"
    yield f"| answered requests without a row (lost) | {verdict['lost']} |"
    yield f"| second rows of one request | {verdict['duplicated']} |"
    yield f"| rows whose patient or diagnosis differs from the answer | {verdict['altered']} |"
    yield f"| keys with two different answers | {verdict['unfaithful']} |"
    yield f"| repeated answers to the same key | {verdict['repeated']:,} |"
    yield f"| rows whose answer did not reach the client | {verdict['unanswered']:,} |"
    yield f"| failed requests, by kind | {failed} |"


def _faults(report: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield "Seconds to recover, median / longest: until a killed process was ready again; until a request that was sent"
    yield "after the fault was answered through HAProxy; until the backlog was no larger than before the fault."
    yield ""
    yield "| fault | times | ready again | answered | drained |"
    yield "|---|---|---|---|---|"
    for kind, figures in report["faults"].items():
        cells = (
            f"{figures[f'{name}_median']:.2f} / {figures[f'{name}_max']:.2f}" if f"{name}_max" in figures else ""
            for name in _MEASURES
        )
        yield f"| {kind} | {figures['times']} | {' | '.join(cells)} |"


def _rest(report: Mapping[str, Any]) -> Iterator[str]:
    poison = report["poison"]
    missing = sum(each["diferencia"] for each in report["account"])
    yield ""
    yield (
        f"The largest backlog in outboxes and queue was {report['largest_backlog']:,} events; both were empty "
        f"{report['drain_seconds']:.1f} s after the clients had stopped. `/conciliacion` "
        f"{'reports no difference' if report['account_closes'] else 'DID NOT SETTLE'}; difference: {missing}. The rig "
        f"sent {poison['sent']} poisonous messages of {len(poison.get('kinds', ()))} kinds, and delivered "
        f"{poison['delivered_twice']:,} messages twice. {poison['quarantined']} events are in quarantine: "
        f"{poison.get('unexpected', 0)} of them are valid, and {poison.get('missing', 0)} poisonous ones are missing."
    )
    if false := report.get("publisher"):
        yield ""
        yield (
            f"A hostile publisher with a gateway's password, key and secret sent {false['sent']} false messages of "
            f"{len(false['kinds'])} kinds: {false['quarantined']} bodies are in quarantine ({false['missing']} are "
            f"missing), {false['believed']} false events were recorded, {false['counted']} accounts count a false "
            f"number, and {false['unnamed']} do not name one."
        )
    yield ""
    yield "Exit codes of the processes (-9: killed): " + "; ".join(
        f"{name} " + ", ".join(f"{code}: {number}" for code, number in sorted(codes.items()))
        for name, codes in report["ended"].items()
        if codes
    )
