"""`python -m bench.suites.limits`: the ceiling, the disk's floor, and where every microsecond of a request goes.

Three servers in alternating rounds: HTTP alone (`nothing`), FastAPI with the same validation and no work
(`bench.baselines.ceiling`), and the local profile. Then each stage of a request by itself (`stages`), compared with the
total of the local profile. Writes docs/benchmarks/limits.*.
"""

import asyncio
import statistics
import sys
import tempfile
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop

from bench.lib.inputs import patients, production, write_patients
from bench.lib.plots import draw
from bench.lib.reports import FOLDER, write_report
from bench.lib.wrk import load
from bench.suites.limits.costs import Timer
from bench.suites.limits.disk import floor
from bench.suites.limits.pages import headline, page, picture
from bench.suites.limits.stages import stages
from shared.telemetry import configure_logging
from shared.web.hosting import limit_pauses
from tests.support.bundles import copy_model
from tests.support.machine import machine
from tests.support.paths import ROOT
from tests.support.processes import Process, serving

SERVERS = {
    "nothing": ["bench.suites.limits.nothing", "{port}"],
    "ceiling": ["bench.baselines.ceiling", "{port}"],
    "local": ["services.local"],
}
CONNECTIONS = (32, 1)
_ROUNDS, _SECONDS, _WARMING_SECONDS, _STAGE_SECONDS = 3, 3, 2, 0.5


def main() -> int:
    """Measure, print, write."""
    configure_logging("error", service="bench")
    model = production()
    if model is None:
        print("no model in production: run `make train` first", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as name:
        folder = Path(name)
        report: dict[str, Any] = {"machine": machine(), "servers": _loaded(folder, model)}
        report["stages"] = {
            str(callers): _stages(folder / f"stages-{callers}", model, callers) for callers in CONNECTIONS
        }
        example = next(patients()).model_dump_json().encode()
        report["disk"] = floor(folder, example * 3)
    shown = page(report)
    print(shown)
    write_report("limits", report, shown, headline=headline(report))
    draw(FOLDER / "limits.svg", *picture(report), height=3.4)
    return 0


def _loaded(folder: Path, model: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Load the three servers; medians over the rounds, by server and number of connections."""
    bodies = write_patients(folder / "patients.jsonl")
    with ExitStack() as opened:
        servers = {name: opened.enter_context(_started(folder / name, model, name)) for name in SERVERS}
        for server in servers.values():
            load(server, bodies, connections=max(CONNECTIONS), seconds=_WARMING_SECONDS)
        runs = [
            (name, connections, asdict(load(server, bodies, connections=connections, seconds=_SECONDS)))
            for _ in range(_ROUNDS)
            for connections in CONNECTIONS
            for name, server in servers.items()
        ]
    return {
        name: {
            str(connections): _medians([run for *of, run in runs if of == [name, connections]])
            for connections in CONNECTIONS
        }
        for name in SERVERS
    }


def _started(folder: Path, model: Path, name: str) -> AbstractContextManager[Process]:
    folder.mkdir()
    copy_model(folder, model)
    return serving([sys.executable, "-m", *SERVERS[name]], folder)


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {field: statistics.median(run[field] for run in runs) for field in runs[0]}


def _stages(home: Path, model: Path, callers: int) -> dict[str, dict[str, float]]:
    home.mkdir()
    copy_model(home, model)
    limit_pauses()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the services run
        costs = runner.run(stages(home, list(patients()), callers, Timer(_STAGE_SECONDS)))
    return {name: asdict(cost) for name, cost in costs.items()}


if __name__ == "__main__":
    sys.exit(main())
