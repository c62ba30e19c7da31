"""`make bench`: the local profile against the ceiling and the simplest design, in one run on one machine.

(a) `ceiling`: FastAPI with the same validation and no work. (b) `local`: this system, everything durable.
(c) `simplest`: the same trained model, unpickled, with a `BackgroundTasks` insert. Rounds alternate, so that other load
on the machine affects all of them; figures are medians over the rounds. Writes docs/benchmarks/local.{json,md}.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.lib.inputs import production, write_patients
from bench.lib.plots import bars, draw
from bench.lib.reports import FOLDER, write_report
from bench.lib.wrk import load
from tests.support.bundles import copy_model
from tests.support.machine import describe, fsync_ms, machine
from tests.support.paths import ROOT
from tests.support.processes import Process, serving

ROUNDS = 5
SECONDS = 4
CONNECTIONS = (32, 1)
WARMING = 8
SERVERS = ("ceiling", "local", "simplest")
_DRAIN_SECONDS = 30


def main() -> int:
    """Run the benchmark, print and write it; return 1 if an answered request is missing from the database."""
    model = production()
    if model is None:
        print("no model in production: run `make train` first", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as name:
        folder = Path(name)
        report = {"machine": machine(), "fsync_ms": fsync_ms(folder), **_measured(folder, model)}
    table = _table(report)
    write_report("local", report, table, headline=_headline(report))
    _draw(report)
    print(table)
    failed = sum(run["failed"] for run in report["runs"] if run["server"] == "local")
    return 0 if report["kept"]["missing"] == 0 and failed == 0 else 1


def _measured(folder: Path, model: Path) -> dict[str, Any]:
    patients = write_patients(folder / "patients.jsonl")
    homes = {name: folder / name for name in SERVERS}
    for home in homes.values():
        home.mkdir()
    copy_model(homes["local"], model)
    python = sys.executable
    with (
        serving([python, "-m", "bench.baselines.ceiling", "{port}"], homes["ceiling"]) as ceiling,
        serving([python, "-m", "services.local"], homes["local"]) as local,
        serving(
            [python, "-m", "bench.baselines.simplest", "{port}", str(model.resolve() / "model.pkl")], homes["simplest"]
        ) as simplest,
    ):
        servers = {"ceiling": ceiling, "local": local, "simplest": simplest}
        runs = list(_rounds(servers, patients))
        answered = sum(run["requests"] - run["failed"] for run in runs if run["server"] == "local")
        return {
            "ready_seconds": {name: server.ready_seconds for name, server in servers.items()},
            "rss_mib": {name: server.rss_mib for name, server in servers.items()},
            "runs": runs,
            "kept": _kept(local, answered, max(CONNECTIONS) * len(runs)),
        }


def _rounds(servers: dict[str, Process], patients: Path) -> Iterator[dict[str, Any]]:
    for name, server in servers.items():  # warmed with another number of connections, which enters no median
        yield {"server": name, "connections": WARMING, **asdict(load(server, patients, connections=WARMING, seconds=2))}
    for number in range(ROUNDS):
        for connections in CONNECTIONS:
            for name, server in servers.items():
                result = load(server, patients, connections=connections, seconds=SECONDS)
                print(
                    f"round {number + 1}/{ROUNDS} {name:9} {connections:3} connections {result.rate:8.0f}/s", flush=True
                )
                yield {"server": name, "connections": connections, **asdict(result)}


def _kept(local: Process, answered: int, cut_off: int) -> dict[str, int]:
    """Wait until the outbox is empty, and compare. wrk cuts at most `cut_off` answered requests off."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while time.monotonic() < deadline:
        account = json.loads(local.read("/conciliacion"))["gateways"][0]
        if account["en_outbox"] == 0:
            break
        time.sleep(0.1)
    return {
        "answered_to_clients": answered,
        "recorded": account["registradas"],
        "missing": max(account["diferencia"], answered - account["registradas"], account["en_outbox"]),
        "cut_off_at_most": cut_off,
    }


def _median(runs: list[dict[str, Any]], server: str, connections: int, field: str) -> float:
    picked = [run[field] for run in runs if run["server"] == server and run["connections"] == connections]
    return float(statistics.median(picked))


def _judged(report: dict[str, Any]) -> list[tuple[str, float, str, bool]]:
    """Return the aims: name, figure, aim, and whether it is reached."""
    runs, many, one = report["runs"], max(CONNECTIONS), min(CONNECTIONS)
    rate = {name: _median(runs, name, many, "rate") for name in SERVERS}
    to_ceiling, to_simplest = rate["local"] / rate["ceiling"], rate["local"] / rate["simplest"]
    p50, allowed = _median(runs, "local", one, "p50_ms"), 4 * _median(runs, "ceiling", one, "p50_ms")
    allowed += report["fsync_ms"]
    memory, ready = report["rss_mib"]["local"], report["ready_seconds"]["local"]
    return [
        (f"requests/s at {many} connections, of the ceiling", to_ceiling, "≥ 0.5", to_ceiling >= 0.5),
        (f"requests/s at {many} connections, times the simplest", to_simplest, "≥ 20", to_simplest >= 20),
        (f"p50 at {one} connection, ms", p50, f"≤ {allowed:.2f} (4 times the ceiling's, plus fsync)", p50 <= allowed),
        ("memory of the local process, MiB", memory, "< 250", memory < 250),
        ("start until ready, s", ready, "≤ 3", ready <= 3),
    ]


def _table(report: dict[str, Any]) -> str:
    machine, runs, kept = report["machine"], report["runs"], report["kept"]
    lines = [
        "# Local profile: speed and memory",
        "",
        (describe(machine)),
        f"Medians of {ROUNDS} alternating rounds of {SECONDS} s with wrk; one fsync takes {report['fsync_ms']:.2f} ms.",
        "",
        "| server | connections | requests/s | p50 ms | p99 ms | CPU µs/request | failed | RSS MiB | ready s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in SERVERS:
        for connections in CONNECTIONS:
            value = {
                field: _median(runs, name, connections, field)
                for field in ("rate", "p50_ms", "p99_ms", "cpu_us", "failed")
            }
            lines.append(
                f"| {name} | {connections} | {value['rate']:,.0f} | {value['p50_ms']:.2f} | {value['p99_ms']:.2f} "
                f"| {value['cpu_us']:.0f} | {value['failed']:.0f} | {report['rss_mib'][name]:.0f} "
                f"| {report['ready_seconds'][name]:.1f} |"
            )
    lines += [
        "",
        (
            "`ceiling`: FastAPI with the same validation and no work. `local`: this system; every answer is fsynced "
            "before it is sent, and recorded in SQLite. `simplest`: the same model, unpickled, and `BackgroundTasks`."
        ),
        "",
        *_aims(report),
        "",
        (
            f"Answered to clients {kept['answered_to_clients']:,}, recorded {kept['recorded']:,} (wrk closes up "
            f"to {kept['cut_off_at_most']} connections before it reads the answer), lost {kept['missing']}."
        ),
        "",
    ]
    return "\n".join(lines)


def _aims(report: dict[str, Any]) -> list[str]:
    return [
        "| | figure | aimed at | reached |",
        "|---|---|---|---|",
        *(
            f"| {what} | {figure:.2f} | {aim} | {'yes' if reached else 'no'} |"
            for what, figure, aim, reached in _judged(report)
        ),
    ]


def _headline(report: dict[str, Any]) -> str:
    runs, many, one = report["runs"], max(CONNECTIONS), min(CONNECTIONS)
    rate = {name: _median(runs, name, many, "rate") for name in SERVERS}
    return (
        f"{rate['local']:,.0f} requests/s at {many} connections, every answer on disk before it is sent: "
        f"{rate['local'] / rate['ceiling']:.2f} of FastAPI with the same validation and no work. At one connection "
        f"the median is {_median(runs, 'local', one, 'p50_ms'):.2f} ms. Lost answers: {report['kept']['missing']}."
    )


def _draw(report: dict[str, Any]) -> None:
    runs = report["runs"]
    draw(
        FOLDER / "local.svg",
        *(
            bars(title, unit, {name: _median(runs, name, max(CONNECTIONS), field) for name in SERVERS}, log="x")
            for title, unit, field in (
                (f"Rate at {max(CONNECTIONS)} connections", "requests/s", "rate"),
                (f"p99 at {max(CONNECTIONS)} connections", "ms", "p99_ms"),
            )
        ),
        height=2.2,
    )


if __name__ == "__main__":
    sys.exit(main())
