"""Three times the capacity for a minute: `python -m chaos.scenarios.overload [--profile …] [--report FILE]`.

Each profile serves a small model; the load generator (`chaos.load.arrivals`) runs on the same machine. A closed loop
finds the peak. An open loop then sends half of that rate, three times the rate, and half again. Afterwards every answer
is looked up in the database. `--report docs/proof/overload.json` writes that file and a page of the same name.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from chaos.analysis.overload_page import failures, page
from chaos.stopping import stoppable
from shared.broker.topology import topology
from shared.diseases.thyroid import DatosPaciente
from tests.support.broker import Broker
from tests.support.bundles import make_bundle
from tests.support.database import query
from tests.support.haproxy import haproxy
from tests.support.machine import fsync_ms, machine
from tests.support.paths import ROOT
from tests.support.postgres import PostgresDatabase, postgres_server
from tests.support.processes import serving
from tests.support.rabbitmq import rabbit_server
from tests.support.stack import server_stack
from tests.support.waiting import until_now

TIMES = 3.0
_SPARE_SECONDS = 120


def main() -> int:
    """Run, print, and write what is asked for; returns 1 if an answer is missing or a refusal says nothing.

    An aim that was missed is no failure: the first sentence of the page says so.
    """
    parser = argparse.ArgumentParser(
        prog="chaos.scenarios.overload", description="Ask three times as much as can be answered."
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--profile", choices=sorted(PROFILES), help="one of them (default: each in turn)")
    parser.add_argument("--report", type=Path, help="where to write the JSON; a page of Markdown goes beside it")
    asked = parser.parse_args()
    report = run([asked.profile] if asked.profile else list(PROFILES), asked.seconds)
    print(page(report))
    if asked.report is not None:
        asked.report.parent.mkdir(parents=True, exist_ok=True)
        asked.report.write_text(json.dumps(report, indent=1) + "\n")
        asked.report.with_suffix(".md").write_text(page(report))
    return 1 if any(any(failures(seen).values()) for seen in report["profiles"].values()) else 0


def run(profiles: list[str], seconds: float) -> dict[str, Any]:
    """Overload each of `profiles` for `seconds`."""
    (ROOT / "var").mkdir(exist_ok=True)
    report: dict[str, Any] = {"machine": machine(), "times": TIMES, "seconds": seconds, "profiles": {}}
    for profile in profiles:
        with tempfile.TemporaryDirectory(dir=ROOT / "var") as name:
            report["fsync_ms"] = fsync_ms(Path(name))
            report["profiles"][profile] = PROFILES[profile](Path(name), seconds)
    return report


def _local(folder: Path, seconds: float) -> dict[str, Any]:
    make_bundle(folder / "var", DatosPaciente)
    with serving([sys.executable, "-m", "services.local"], folder) as server:
        seen = _overloaded(server.port, seconds, folder)
        until_now(lambda: _settled(server.read("/conciliacion")), seconds=_SPARE_SECONDS)
    return _accounted(seen, folder, {row[0] for row in query(folder, "SELECT id FROM predicciones")})


def _server(folder: Path, seconds: float) -> dict[str, Any]:
    front = folder / "front"
    front.mkdir()
    with rabbit_server() as rabbit, postgres_server(durable=True) as postgres, ExitStack() as opened:
        database = PostgresDatabase(postgres, postgres.new_database())
        broker = Broker(rabbit, rabbit.url, topology("predecir"))
        stack = opened.enter_context(server_stack(folder, broker, replicas=1, database=database))
        recorder = opened.enter_context(stack.recorder())
        balancer = opened.enter_context(haproxy(front, "gateways", [stack.gateway.port]))
        report = _overloaded(balancer.port, seconds, folder)
        stack.drain(recorder)
        return _accounted(report, folder, set(database.query("SELECT id::text FROM predicciones")))


PROFILES = {"local": _local, "server": _server}


def _overloaded(port: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Overload what listens on `port`; the ids of all answers go into `folder`."""
    command = [sys.executable, "-m", "chaos.load.arrivals", str(port), str(TIMES), str(seconds), str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=seconds + _SPARE_SECONDS)  # noqa: S603 - our own module
    seen: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return seen


def _accounted(seen: dict[str, Any], folder: Path, recorded: set[str]) -> dict[str, Any]:
    answered = (folder / "answered").read_text().split()
    return {**seen, "answered": len(answered), "lost": len(set(answered) - recorded)}


def _settled(account: bytes) -> bool:
    found = json.loads(account)
    return found["diferencia"] == 0 and all(gateway["en_outbox"] == 0 for gateway in found["gateways"])


if __name__ == "__main__":
    sys.exit(stoppable(main))
