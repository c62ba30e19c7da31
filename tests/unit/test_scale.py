"""The figures in docs/operations/scale.md are those of the last report, and the plan stays within its own limits."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.suites.scale.pages import MarkerError, blocks, page, renewed
from bench.suites.scale.plan import BUSY, Costs, Overlay, carried, days_until_full, need, overlays

ROOT = Path(__file__).parents[2]
COSTS = Costs(
    gateway=200e-6,
    inference=50e-6,
    recorder=30e-6,
    broker=10e-6,
    database=20e-6,
    event_bytes=1000,
    row_bytes=2000,
    log_bytes=2000,
    kept_bytes=1000,
)


def report() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs/benchmarks/scale.json").read_text())
    return found


def test_the_page_has_the_figures_of_the_last_report() -> None:
    text = (ROOT / "docs/operations/scale.md").read_text()
    assert renewed(text, blocks(report())) == text
    assert page(report()) == (ROOT / "docs/benchmarks/scale.md").read_text()


def test_a_page_without_a_place_for_a_block_is_rejected_by_its_name() -> None:
    with pytest.raises(MarkerError, match="needs"):
        renewed("# Scale\n", {"needs": "| |"})


@pytest.mark.parametrize("rate", [10.0, 1_000.0, 100_000.0])
def test_what_a_rate_needs_is_busy_to_its_share_and_no_replica_more(rate: float) -> None:
    found = need(rate, COSTS)
    assert rate * COSTS.gateway <= found.gateways * BUSY
    assert rate * COSTS.inference <= found.inference * BUSY
    assert found.recorders == max(1, -(-rate * COSTS.recorder // BUSY))


def test_an_overlay_carries_what_its_replicas_do_and_its_volumes_hold() -> None:
    small = Overlay(gateways=1, inference=2, recorders=1, storage=2000 * 86400, outbox=1000 * 86400)
    assert carried(small, COSTS)["gateways"] == pytest.approx(BUSY / COSTS.gateway)
    assert days_until_full(small, 1, COSTS) == {"database": 1, "gateway": None}
    assert days_until_full(small, 4, COSTS) == {"database": 0.25, "gateway": 0.25}


def test_both_overlays_are_read_as_they_are() -> None:
    found = overlays()
    assert found["clinic"].gateways == 1
    assert found["cluster"].gateways == 3
    assert found["cluster"].storage == 50 * 2**30
