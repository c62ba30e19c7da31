"""The report of an outage: requests and failures by phase, both shown on the page."""

from typing import Any

import pytest

from chaos.analysis.outage_page import page
from chaos.scenarios.outage import phases
from tests.support.load import Request
from tests.support.machine import machine

VERDICT = {"answered": 60_000, "lost": 0, "duplicated": 0, "altered": 0, "failed": {}}


def report(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    good = {
        "machine": machine(),
        "fsync_ms": 1.0,
        "without": "broker",
        "seconds": 600.0,
        "rate": 100.0,
        "verdict": VERDICT,
        "drain": {"backlog": 60_000, "seconds": 30.0, "rate": 2_000.0},
        "dead_lettered": 0,
        "quarantined": 0,
        "phases": phases([Request(0, 1, 1, False, "", "id", "sano")], [5, 6, 7]),  # noqa: FBT003
    }
    return good | changes


def test_requests_belong_to_the_phase_in_which_they_began() -> None:
    asked = [
        Request(at, at + 0.5, number, keyed=False, failed="503" if at == 6 else "")
        for number, at in enumerate((1, 6, 6.5, 8, 9))
    ]
    found = {phase["phase"]: (phase["answered"], phase["failed"]) for phase in phases(asked, [5, 7, 8.5])}
    assert found == {"before": (1, {}), "without": (1, {"503": 1}), "draining": (1, {}), "after": (1, {})}


def test_a_good_outage_reaches_all_that_was_aimed_at() -> None:
    assert "| no |" not in page(report())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"verdict": VERDICT | {"failed": {"503": 3}}}, "| failed requests | 3 | 0 | no |"),
        ({"verdict": VERDICT | {"lost": 2}}, "| answered and not recorded | 2 | 0 | no |"),
        ({"verdict": VERDICT | {"altered": 1}}, "| duplicated or altered rows | 1 | 0 | no |"),
        ({"dead_lettered": 4}, "| dead-lettered messages | 4 | 0 | no |"),
        ({"quarantined": 5}, "| events in quarantine | 5 | 0 | no |"),
        ({"drain": {"backlog": 9, "seconds": 9.0, "rate": 1.0}}, "| rows/s after the outage, under load | 1 |"),
    ],
)
def test_what_was_missed_is_on_the_page(changes: dict[str, Any], line: str) -> None:
    said = page(report(**changes))
    assert line in said
    assert said.count("| no |") == 1
