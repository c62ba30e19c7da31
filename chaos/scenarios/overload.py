"""Three times the capacity for a minute: `python -m chaos.scenarios.overload [--profile …] [--report FILE]`.

Each profile serves a small model; the load generator (`chaos.load.arrivals`) runs on the same machine. A closed loop
finds the peak. An open loop then sends half of that rate, three times the rate, and half again. Afterwards every answer
is looked up in the database. `--report docs/proof/overload.json` writes that file and a page of the same name.
"""

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
    """Run, print and write the report; return 1 if an answer is missing or a rejection lacks `Retry-After`.

    A missed aim is no failure: the first sentence of the page states it.
    """
    parser = argparse.ArgumentParser(
        prog="chaos.scenarios.overload", description="Ask three times as much as can be answered."
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--profile", choices=sorted(PROFILES), help="one of them (default: each in turn)")
    parser.add_argument("--report", type=Path, help="where to write the JSON; a page of Markdown goes beside it")
    arguments = parser.parse_args()
    report = run([arguments.profile] if arguments.profile else list(PROFILES), arguments.seconds)
    print(page(report))
    if arguments.report is not None:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(json.dumps(report, indent=1) + "\n")
        arguments.report.with_suffix(".md").write_text(page(report))
    return 1 if any(any(failures(measurements).values()) for measurements in report["profiles"].values()) else 0


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
        measurements = _overloaded(server.port, seconds, folder)
        until_now(lambda: _settled(server.read("/conciliacion")), seconds=_SPARE_SECONDS)
    return _accounted(measurements, folder, {row[0] for row in query(folder, "SELECT id FROM predicciones")})


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
    """Overload the server on `port`; the ids of all answers are written into `folder`."""
    command = [sys.executable, "-m", "chaos.load.arrivals", str(port), str(TIMES), str(seconds), str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=seconds + _SPARE_SECONDS)  # noqa: S603 - our own module
    measurements: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return measurements


def _accounted(measurements: dict[str, Any], folder: Path, recorded: set[str]) -> dict[str, Any]:
    answered = (folder / "answered").read_text().split()
    return {**measurements, "answered": len(answered), "lost": len(set(answered) - recorded)}


def _settled(account: bytes) -> bool:
    body = json.loads(account)
    return body["diferencia"] == 0 and all(gateway["en_outbox"] == 0 for gateway in body["gateways"])


if __name__ == "__main__":
    sys.exit(stoppable(main))
