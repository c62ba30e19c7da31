"""`python -m chaos.failpoints`: kills processes at every failpoint, and says whether anything came of it.

Writes the account as JSON, and as a page beside it; ends with 1 if anything was lost, doubled or left half done.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from chaos.failpoints.checkpoint import FILES
from chaos.failpoints.every import every
from chaos.failpoints.page import line, page
from chaos.failpoints.tally import NotHitError
from chaos.stopping import stoppable
from shared.failpoints import Failpoint
from shared.telemetry import configure_logging
from tests.support.machine import machine
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from chaos.failpoints.tally import Tally

_ORDER = (*get_args(Failpoint), *FILES)


def main() -> int:
    """Hit, print, write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos.failpoints", description=__doc__)
    parser.add_argument(
        "--hits", type=int, default=50, help="kills at each failpoint, shared by its places (default: 50)"
    )
    parser.add_argument("--report", type=Path, help="JSON file to write; the same name with .md is a page")
    asked = parser.parse_args()
    configure_logging("warning", service="chaos")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    conditions, started, rows = machine(), time.monotonic(), list[dict[str, Any]]()
    (ROOT / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "var", prefix="failpoints-") as folder:
        try:
            every(asked.hits, Path(folder), lambda tally: rows.append(_said(tally)))
        except NotHitError as error:
            print(f"chaos: {error}", file=sys.stderr)
            return 1
    rows.sort(key=lambda row: _ORDER.index(row["failpoint"]))
    holds = all(row["lost"] == row["doubled"] == row["half_done"] == 0 < row["hits"] for row in rows)
    report = {"machine": conditions, "seconds": time.monotonic() - started, "holds": holds, "failpoints": rows}
    if asked.report:
        asked.report.parent.mkdir(parents=True, exist_ok=True)
        asked.report.write_text(json.dumps(report, indent=1) + "\n")
        asked.report.with_suffix(".md").write_text(page(report))
    return 0 if holds else 1


def _said(tally: Tally) -> dict[str, Any]:
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
