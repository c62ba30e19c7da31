"""`python -m bench.scale`: how far it goes; from the reports in docs/benchmarks/ and a few measurements of its own.

Writes docs/benchmarks/scale.* and the figures of docs/operations/scale.md, between its markers. Part of `make bench`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.conditions import machine, production
from bench.plots import draw, lines
from bench.reports import FOLDER, write_report
from bench.scale.measure import bytes_each, inference_call, keyed_bytes
from bench.scale.one_machine import predicted_rate
from bench.scale.pages import blocks, headline, page, renewed
from bench.scale.plan import Costs, carried, days_until_full, need, overlays
from bench.servers import ROOT

if TYPE_CHECKING:
    from bench.plots import Panel

TEXT = ROOT / "docs" / "operations" / "scale.md"
RATES = (10.0, 1_000.0, 100_000.0)
_DRAWN = tuple(10 ** (power / 4) for power in range(4, 21))


def main() -> int:
    """Measure, predict, write."""
    model = production()
    if model is None:
        print("no model in production: run `make train` first", file=sys.stderr)
        return 1
    server = json.loads((FOLDER / "server.json").read_text())
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as folder:
        sizes = bytes_each()
        sizes |= keyed_bytes(Path(folder), round(sizes["event"]))  # an answer is about as long as its event
        measured = {"inference": inference_call(Path(folder), model), "bytes": sizes}
    costs = _costs(server, measured)
    found, measured_on = _measured_replicas(server)
    report: dict[str, Any] = {
        "machine": machine(),
        "server_machine": server["machine"],
        **measured,
        "costs": asdict(costs),
        "replicas": _checked(found, server),
        "replicas_machine": measured_on,
        "needs": [{**asdict(each), "cores": each.cores} for each in (need(rate, costs) for rate in RATES)],
        "carried": {name: carried(overlay, costs) for name, overlay in overlays().items()},
        "days_until_full": {
            name: {f"{rate:.0f}": days_until_full(overlay, rate, costs) for rate in RATES[:2]}
            for name, overlay in overlays().items()
        },
    }
    draw(FOLDER / "scale.svg", _replicas_panel(report), _needs_panel(costs))
    write_report("scale", report, page(report), headline=headline(report))
    TEXT.write_text(renewed(TEXT.read_text(), blocks(report)))
    print(page(report))
    return 0


def _costs(server: dict[str, Any], measured: dict[str, dict[str, float]]) -> Costs:
    each = {name: seconds / server["load"]["requests"] for name, seconds in server["cpu_seconds"].items()}
    return Costs(
        gateway=each["gateway"],
        call=measured["inference"]["fixed_us"] / 1e6,
        row=measured["inference"]["each_us"] / 1e6,
        recorder=each["recorder"],
        broker=each["RabbitMQ"],
        database=each["PostgreSQL"],
        event_bytes=measured["bytes"]["event"],
        row_bytes=measured["bytes"]["row"],
        log_bytes=measured["bytes"]["log"],
        kept_bytes=measured["bytes"]["kept_answer"],
        key_bytes=measured["bytes"]["key"],
        fsync=server["fsync_ms"] / 1e3,
    )


def _measured_replicas(server: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Give what `bench.growth` measured of each number of replicas and on what, or else the one of `bench.server`."""
    path = FOLDER / "growth.json"
    growth = json.loads(path.read_text()) if path.exists() else {}
    if "replicas" in growth:
        return growth["replicas"], growth["machines"]["replicas"]
    cpu = {name: seconds / server["load"]["requests"] * 1e6 for name, seconds in server["cpu_seconds"].items()}
    return [{"replicas": 1, "rate": server["load"]["rate"], "cpu_us": cpu}], server["machine"]


def _checked(found: list[dict[str, Any]], server: dict[str, Any]) -> list[dict[str, float]]:
    """Predict each number of replicas that was measured, from what the parts cost with one."""
    cores = server["machine"]["cores"]
    around = [(each.get("others_cores", 0.0), each.get("fsync_ms", server["fsync_ms"])) for each in found]
    return [
        {
            "replicas": each["replicas"],
            "others": others,
            "fsync_ms": fsync,
            "measured": each["rate"],
            "predicted": predicted_rate(
                found[0]["cpu_us"], fsync, replicas=each["replicas"], cores=cores, others=others
            ),
        }
        for each, (others, fsync) in zip(found, around, strict=True)
    ]


def _replicas_panel(report: dict[str, Any]) -> Panel:
    series = {
        name: [(float(each["replicas"]), each[name]) for each in report["replicas"]]
        for name in ("measured", "predicted")
    }
    return lines("Inference replicas on one machine", "replicas", "requests/s", series)


def _needs_panel(costs: Costs) -> Panel:
    found = [need(rate, costs) for rate in _DRAWN]
    series = {
        name: [(each.rate, float(getattr(each, name))) for each in found]
        for name in ("gateways", "inference", "recorders")
    }
    return lines("Replicas for a rate", "predictions/s", "replicas", series, log="xy")


if __name__ == "__main__":
    sys.exit(main())
