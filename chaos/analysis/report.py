"""The report of a run, as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.machine import describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PARTS = {
    "server": "Two gateways, two inference replicas, two recorders, HAProxy, RabbitMQ and PostgreSQL",
    "local": "One process of `services.local` and its SQLite files",
}
_MEASURES = ("restarted", "answered", "drained")


def summary(report: Mapping[str, Any]) -> str:
    """Put `report` on a page of Markdown."""
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
    yield "| what | number |"
    yield "|---|---|"
    yield f"| answered requests without a row | {verdict['lost']} |"
    yield f"| rows beyond the one of their request | {verdict['duplicated']} |"
    yield f"| rows with another patient or diagnosis than was answered | {verdict['altered']} |"
    yield f"| keys that got two different answers | {verdict['unfaithful']} |"
    yield f"| answers given once more to the same key | {verdict['repeated']:,} |"
    yield f"| rows whose answer was cut off on its way to the client | {verdict['unanswered']:,} |"
    yield f"| failed requests, by kind | {failed} |"


def _faults(report: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield "Seconds to recover, median / longest: until a killed process said that it was ready again; until a request"
    yield "that began after the fault was answered through HAProxy; until no more events waited than before it."
    yield ""
    yield "| fault | times | ready again | answered | drained |"
    yield "|---|---|---|---|---|"
    for kind, seen in report["faults"].items():
        cells = (
            f"{seen[f'{name}_median']:.2f} / {seen[f'{name}_max']:.2f}" if f"{name}_max" in seen else ""
            for name in _MEASURES
        )
        yield f"| {kind} | {seen['times']} | {' | '.join(cells)} |"


def _rest(report: Mapping[str, Any]) -> Iterator[str]:
    poison = report["poison"]
    missing = sum(each["diferencia"] for each in report["account"])
    yield ""
    yield (
        f"At most {report['largest_backlog']:,} waited in outboxes and queue; all of it was recorded "
        f"{report['drain_seconds']:.1f} s after the clients had stopped. The account of `/conciliacion` "
        f"{'closes' if report['account_closes'] else 'DOES NOT CLOSE'}, and misses {missing}. "
        f"{poison['sent']} poisonous messages of {len(poison.get('kinds', ()))} kinds were sent, and "
        f"{poison['delivered_twice']:,} messages delivered twice; {poison['quarantined']} events are in quarantine, of "
        f"which {poison.get('unexpected', 0)} are no poison, and {poison.get('missing', 0)} are missing."
    )
    yield ""
    yield "How processes ended, by exit code (-9 is a kill): " + "; ".join(
        f"{name} " + ", ".join(f"{code}: {number}" for code, number in sorted(codes.items()))
        for name, codes in report["ended"].items()
        if codes
    )
