"""`python -m chaos.failpoints`: kill processes at every failpoint, and report what was lost, doubled or left half done.

Writes the report as JSON and as a page beside it. The exit code is 1 if anything was lost, doubled or left half done.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

from chaos.failpoints.checkpoint import FILES
from chaos.failpoints.every import every
from chaos.failpoints.page import line, page
from chaos.failpoints.tally import NotHitError, Tally
from chaos.programs import TRACER, require
from chaos.stopping import stoppable
from shared.failpoints import Failpoint
from shared.telemetry import configure_logging
from tests.support.machine import machine
from tests.support.paths import ROOT

_ORDER = (*get_args(Failpoint), *FILES)


def main() -> int:
    """Hit the failpoints, print and write the report; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos.failpoints", description=__doc__)
    parser.add_argument(
        "--hits", type=int, default=50, help="kills at each failpoint, shared by its places (default: 50)"
    )
    parser.add_argument("--report", type=Path, help="JSON file to write; the same name with .md is a page")
    arguments = parser.parse_args()
    require("rabbitmq-server", "postgresql", TRACER)
    configure_logging("warning", service="chaos")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    conditions, started, rows = machine(), time.monotonic(), list[dict[str, Any]]()
    (ROOT / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "var", prefix="failpoints-") as folder:
        try:
            every(arguments.hits, Path(folder), lambda tally: rows.append(_figures(tally)))
        except NotHitError as error:
            print(f"chaos: {error}", file=sys.stderr)
            return 1
    rows.sort(key=lambda row: _ORDER.index(row["failpoint"]))
    holds = all(row["lost"] == row["doubled"] == row["half_done"] == 0 < row["hits"] for row in rows)
    report = {"machine": conditions, "seconds": time.monotonic() - started, "holds": holds, "failpoints": rows}
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(json.dumps(report, indent=1) + "\n")
        arguments.report.with_suffix(".md").write_text(page(report))
    return 0 if holds else 1


def _figures(tally: Tally) -> dict[str, Any]:
    row = _row(tally)
    print(line(row), flush=True)
    return row


def _row(tally: Tally) -> dict[str, Any]:
    return {
        "failpoint": tally.failpoint,
        "place": tally.place,
        "hits": tally.hits,
        "answered": tally.answered,
        "lost": tally.lost,
        "doubled": tally.doubled,
        "half_done": tally.halves,
        "recovery_seconds_median": statistics.median(tally.recoveries),
        "recovery_seconds_max": max(tally.recoveries),
    }


if __name__ == "__main__":
    sys.exit(stoppable(main))
