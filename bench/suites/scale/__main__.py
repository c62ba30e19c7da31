"""`python -m bench.suites.scale`: resources for a rate, from the measured cost of each part and a prediction's bytes.

Writes docs/benchmarks/scale.* and the figures of docs/operations/scale.md, between its markers. Part of `make bench`.
"""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.lib.plots import Panel, draw, lines
from bench.lib.reports import FOLDER, write_report
from bench.suites.scale.measure import bytes_each, keyed_bytes
from bench.suites.scale.pages import blocks, headline, page, renewed
from bench.suites.scale.plan import Costs, carried, days_until_full, need, overlays
from tests.support.machine import machine
from tests.support.paths import ROOT

TEXT = ROOT / "docs" / "operations" / "scale.md"
RATES = (10.0, 1_000.0, 100_000.0)
_DRAWN = tuple(10 ** (power / 4) for power in range(4, 21))


def main() -> int:
    """Measure the bytes, multiply the costs, write the report."""
    server = json.loads((FOLDER / "server.json").read_text())
    sizes = bytes_each()
    with tempfile.TemporaryDirectory() as folder:
        sizes |= keyed_bytes(Path(folder), round(sizes["event"]))  # an answer is about as long as its event
    costs = _costs(server, sizes)
    report: dict[str, Any] = {
        "machine": machine(),
        "server_machine": server["machine"],
        "bytes": sizes,
        "costs": asdict(costs),
        "needs": [{**asdict(row), "cores": row.cores} for row in (need(rate, costs) for rate in RATES)],
        "carried": {name: carried(overlay, costs) for name, overlay in overlays().items()},
        "days_until_full": {
            name: {f"{rate:.0f}": days_until_full(overlay, rate, costs) for rate in RATES[:2]}
            for name, overlay in overlays().items()
        },
    }
    draw(FOLDER / "scale.svg", _needs_panel(costs))
    write_report("scale", report, page(report), headline=headline(report))
    TEXT.write_text(renewed(TEXT.read_text(), blocks(report)))
    print(page(report))
    return 0


def _costs(server: dict[str, Any], sizes: dict[str, float]) -> Costs:
    cpu = {part: seconds / server["load"]["requests"] for part, seconds in server["cpu_seconds"].items()}
    return Costs(
        gateway=cpu["gateway"],
        inference=cpu["inference"],
        recorder=cpu["recorder"],
        broker=cpu["RabbitMQ"],
        database=cpu["PostgreSQL"],
        event_bytes=sizes["event"],
        row_bytes=sizes["row"],
        log_bytes=sizes["log"],
        kept_bytes=sizes["kept_answer"],
    )


def _needs_panel(costs: Costs) -> Panel:
    needs = [need(rate, costs) for rate in _DRAWN]
    series = {
        name: [(row.rate, float(getattr(row, name))) for row in needs]
        for name in ("gateways", "inference", "recorders")
    }
    return lines("Replicas for a rate", "predictions/s", "replicas", series, log="xy")


if __name__ == "__main__":
    sys.exit(main())
