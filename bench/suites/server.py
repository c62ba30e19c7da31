"""The server profile under load for a minute: `python -m bench.suites.server [SECONDS]`, part of `make bench`.

RabbitMQ, PostgreSQL (with fsync), inference, gateway, recorder and the load generator run on this machine. The ceiling
(`bench.baselines.ceiling`) is measured in the same run. The report has the rows that reach PostgreSQL during the load,
the backlog, and the rate of the recorder alone on a full queue. A whole run writes docs/benchmarks/server.{json,md}.
"""

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.lib.inputs import production, write_patients
from bench.lib.plots import bars, draw
from bench.lib.profile import cpu, cpu_by_part, rows, server_profile
from bench.lib.reports import FOLDER, write_report
from bench.lib.wrk import Load, load
from tests.support.machine import describe, fsync_ms, machine
from tests.support.paths import ROOT
from tests.support.processes import Process, serving
from tests.support.stack import DRAIN_SECONDS, LOOK_SECONDS, RECORDED, Stack

SECONDS = 60
CONNECTIONS = 32
_CEILING_SECONDS = 10
_FILLING_SECONDS = 10
_WARMING_SECONDS = 3


def main() -> int:
    """Run the benchmark, print and write it; return 1 if an answered request is missing from the database."""
    model = production()
    if model is None:
        print("no model in production: run `make train` first", file=sys.stderr)
        return 1
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as name:
        folder = Path(name)
        report = {"machine": machine(), "fsync_ms": fsync_ms(folder), **_measured(folder, model, seconds)}
    table = _table(report)
    print(table)
    if seconds == SECONDS:
        write_report("server", report, table, headline=_headline(report))
        _draw(report)
    return 0 if report["missing"] == 0 and report["load"]["failed"] == 0 else 1


def _measured(folder: Path, model: Path, seconds: int) -> dict[str, Any]:
    patients = write_patients(folder / "patients.jsonl")
    ceiling = _ceiling(folder, patients)
    with server_profile(folder, model) as stack:
        with stack.recorder() as recorder:
            load(stack.gateway, patients, connections=CONNECTIONS, seconds=_WARMING_SECONDS)
            stack.drain(recorder)
            report = _minute(stack, recorder, patients, seconds)
            drain = stack.drain(recorder)
        return {
            "ceiling": asdict(ceiling),
            **report,
            "drain_seconds": drain,
            "full_queue": _full_queue(stack, patients),
            "missing": max(0, stack.gateway.metric("predecir_answers_total") - rows(stack)),
            "rows": rows(stack),
        }


def _ceiling(folder: Path, patients: Path) -> Load:
    home = folder / "ceiling"
    home.mkdir()
    with serving([sys.executable, "-m", "bench.baselines.ceiling", "{port}"], home) as server:
        load(server, patients, connections=CONNECTIONS, seconds=_WARMING_SECONDS)
        return load(server, patients, connections=CONNECTIONS, seconds=_CEILING_SECONDS)


def _minute(stack: Stack, recorder: Process, patients: Path, seconds: int) -> dict[str, Any]:
    before = cpu_by_part(stack, recorder)
    backlogs = [stack.backlog(recorder)]
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(load, stack.gateway, patients, connections=CONNECTIONS, seconds=seconds)
        time.sleep(seconds / 2)
        backlogs.append(stack.backlog(recorder))
        load_result = future.result()
    backlogs.append(stack.backlog(recorder))
    after = cpu_by_part(stack, recorder)
    start, _, end = backlogs
    return {
        "load": asdict(load_result),
        "rows_rate": (end.recorded - start.recorded) / (end.at - start.at),
        "answers_rate": (end.answered - start.answered) / (end.at - start.at),
        "backlog": [asdict(each) for each in backlogs],
        "cpu_seconds": {name: after[name] - before[name] for name in after},
        "wall_seconds": end.at - start.at,
    }


def _full_queue(stack: Stack, patients: Path) -> dict[str, float]:
    """Fill the queue while no recorder runs, then drain it with one, without other load."""
    before = rows(stack)
    load(stack.gateway, patients, connections=CONNECTIONS, seconds=_FILLING_SECONDS)
    deadline = time.monotonic() + DRAIN_SECONDS
    while stack.gateway.metric("predecir_outbox_pending") and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    waiting = stack.gateway.metric("predecir_answers_total") - before
    with stack.recorder() as recorder:
        # From its readiness: the rate during its start is no measure of anything.
        started, used, first = time.monotonic(), cpu(recorder.process), recorder.metric(RECORDED)
        while (done := recorder.metric(RECORDED)) < waiting and time.monotonic() < started + DRAIN_SECONDS:
            time.sleep(LOOK_SECONDS)
        seconds, used = time.monotonic() - started, cpu(recorder.process) - used
        return {"events": waiting, "rate": (done - first) / seconds, "cpu_us": used / max(done - first, 1) * 1e6}


def _judged(report: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """Return the aims: name, figure, aim, and whether it is reached."""
    load_result, ceiling, drain = report["load"], report["ceiling"], report["full_queue"]
    ratio, reached = load_result["rate"] / ceiling["rate"], report["rows_rate"] / report["answers_rate"]
    (_, middle, end), rate = report["backlog"], load_result["rate"]
    grown = (end["answered"] - end["recorded"]) - (middle["answered"] - middle["recorded"])
    return [
        ("requests/s, of the ceiling", f"{ratio:.2f}", "≥ 0.25", ratio >= 0.25),
        ("rows reaching PostgreSQL, of the requests answered", f"{reached:.3f}", "≥ 0.99", reached >= 0.99),
        ("growth of the backlog, second half, answers", f"{grown:,}", f"≤ {rate:,.0f} (a second's)", grown <= rate),
        ("recorder alone on a full queue, events/s", f"{drain['rate']:,.0f}", "≥ 3,000", drain["rate"] >= 3000),
    ]


def _table(report: dict[str, Any]) -> str:
    load_result, ceiling, drain = report["load"], report["ceiling"], report["full_queue"]
    lines = [
        "# Server profile: a minute under load",
        "",
        describe(report["machine"]),
        (
            f"wrk with {CONNECTIONS} connections for {report['wall_seconds']:.0f} s; RabbitMQ, PostgreSQL with fsync, "
            f"inference, gateway, recorder and wrk share {os.cpu_count()} cores. One fsync takes "
            f"{report['fsync_ms']:.2f} ms. The ceiling is FastAPI with the same validation and no work."
        ),
        "",
        "| | requests/s | p50 ms | p99 ms | failed | rows/s into PostgreSQL |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {run['rate']:,.0f} | {run['p50_ms']:.2f} | {run['p99_ms']:.2f} | {run['failed']} | {rows} |"
            for name, run, rows in (("ceiling", ceiling, ""), ("server", load_result, f"{report['rows_rate']:,.0f}"))
        ),
        "",
        "| | figure | aimed at | reached |",
        "|---|---|---|---|",
        *(
            f"| {what} | {figure} | {aim} | {'yes' if reached else 'no'} |"
            for what, figure, aim, reached in _judged(report)
        ),
        "",
        "| backlog | answered | recorded | in the outbox | in the queue or unacknowledged at a recorder |",
        "|---|---|---|---|---|",
        *(
            f"| {when} | {at['answered']:,} | {at['recorded']:,} | {at['outbox']:,} | {at['queue']:,} |"
            for when, at in zip(("start", "middle", "end"), report["backlog"], strict=True)
        ),
        "",
        "| part | CPU s | µs per request |",
        "|---|---|---|",
        *(
            f"| {name} | {used:.1f} | {used / load_result['requests'] * 1e6:.0f} |"
            for name, used in report["cpu_seconds"].items()
        ),
        "",
        (
            f"After the minute the backlog was recorded in {report['drain_seconds']:.2f} s. The recorder alone took "
            f"{drain['events']:,} queued events at {drain['rate']:,.0f} events/s, with {drain['cpu_us']:.0f} µs of CPU "
            f"each. {report['rows']:,} rows in PostgreSQL, {report['missing']} answers lost."
        ),
        "",
    ]
    return "\n".join(lines)


def _headline(report: dict[str, Any]) -> str:
    alone = report["full_queue"]["rate"]
    return (
        f"{report['load']['rate']:,.0f} requests/s for {report['wall_seconds']:.0f} s, and "
        f"{report['rows_rate']:,.0f} rows/s into PostgreSQL; a recorder alone takes {alone:,.0f} events/s. "
        f"Lost answers: {report['missing']}."
    )


def _draw(report: dict[str, Any]) -> None:
    requests = report["load"]["requests"]
    parts = {name: used / requests * 1e6 for name, used in report["cpu_seconds"].items()}
    draw(FOLDER / "server.svg", bars("What one request costs each part", "CPU µs", parts), height=2.8)


if __name__ == "__main__":
    sys.exit(main())
