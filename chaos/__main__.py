"""`python -m chaos`: break a running profile by a seed, and report whether any answer is missing."""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from pathlib import Path

from chaos.analysis.report import summary
from chaos.faults.injection import HELD, KILLS
from chaos.load.plan import Plan
from chaos.programs import CLOCK, SERVERS, require
from chaos.scenarios.local import LOCAL_HELD, run_local
from chaos.scenarios.server import POISON, PUBLISHER, run_server
from chaos.stopping import stoppable
from tests.support.machine import fsync_ms, machine
from tests.support.paths import ROOT

_RUNS = {"server": run_server, "local": run_local}
CATEGORIES = sorted({kind.split("-")[0] for kind in (*KILLS, *HELD, *LOCAL_HELD, POISON, PUBLISHER)})


def main() -> int:
    """Run the plan, print and write the report; return 1 if anything was lost, doubled or altered.

    Raises:
        UnavailableError: a program is missing on this machine.

    """
    arguments = _arguments()
    chosen = {each.strip() for each in arguments.faults.split(",")}
    if unknown := chosen - set(CATEGORIES):
        print(f"chaos: --faults: {', '.join(sorted(unknown))}: choose from {','.join(CATEGORIES)}", file=sys.stderr)
        return 78
    if arguments.profile == "server":
        require(*SERVERS, CLOCK)
    plan = Plan(arguments.seconds, arguments.kills, arguments.seed, chosen, pause_ms=arguments.pause_ms)
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # expected here: the broker is stopped
    (ROOT / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "var", prefix="chaos-") as name:
        folder = Path(name)
        conditions = {"machine": machine(), "fsync_ms": fsync_ms(folder)}
        report = {**conditions, **asyncio.run(_RUNS[arguments.profile](plan, folder))}
    print(summary(report))
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(json.dumps(report, indent=1) + "\n")
        arguments.report.with_suffix(".md").write_text(summary(report))
    return 0 if report["holds"] else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--profile", choices=sorted(_RUNS), default="server", help="what is broken (default: server)")
    parser.add_argument("--seconds", type=float, default=120, help="how long faults are injected (default: 120)")
    parser.add_argument("--kills", type=int, default=100, help="how many kill -9 in that time (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="what is done when (default: 1)")
    parser.add_argument("--faults", default=",".join(CATEGORIES), help="categories, comma separated (default: all)")
    parser.add_argument("--pause-ms", type=float, default=20, help="rest of a connection after an answer (default: 20)")
    parser.add_argument("--report", type=Path, help="JSON file to write; the same name with .md is a page")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(stoppable(main))
