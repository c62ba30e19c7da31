"""From 1 to 4 replicas of inference behind HAProxy, everything durable: the rate, and the CPU of every part.

All parts share this machine. Where its cores are busy already, more replicas cannot raise the rate; what each part
costs per request then tells their rate on separate machines (docs/operations/scale.md).
"""

import os
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.lib.inputs import write_patients
from bench.lib.plots import Panel, lines
from bench.lib.profile import cpu_by_part, machine_cpu, services_on
from bench.lib.reports import table
from bench.lib.wrk import load
from tests.support.machine import fsyncs
from tests.support.postgres import postgres_server
from tests.support.rabbitmq import rabbit_server
from tests.support.stack import Stack

TITLE = "Replicas of inference"
COUNTS = (1, 2, 3, 4)
CONNECTIONS = 32
_WARMING_SECONDS, _SECONDS = 2, 6


def measure(folder: Path, model: Path) -> list[dict[str, Any]]:
    """Load each number of replicas in turn, on the same broker and database server."""
    patients = write_patients(folder / "patients.jsonl")
    results = []
    with rabbit_server() as rabbit, postgres_server(durable=True) as postgres:
        for count in COUNTS:
            home = folder / str(count)
            home.mkdir()
            with services_on(rabbit, postgres, home, model, replicas=count) as stack:
                results.append({"replicas": count, **_under_load(stack, patients)})
            print(f"growth: {count} replicas: {results[-1]['rate']:,.0f} requests/s", flush=True)
    return results


def page(results: list[dict[str, Any]]) -> list[str]:
    """Return the table."""
    parts = list(results[0]["cpu_us"])
    return [
        (
            f"wrk with {CONNECTIONS} connections for {_SECONDS} s; all replicas, gateway, recorder, RabbitMQ and "
            f"PostgreSQL share {os.cpu_count()} cores with it. CPU is in µs a request, until every answer was "
            'recorded, and of all replicas together. "Others\' cores" is the CPU use of other programs on the machine; '
            '"fsync ms" is an fsync of the benchmark during the load.'
        ),
        "",
        *table(
            ["replicas", "requests/s", "p50 ms", "p99 ms", "patients in a call", "others' cores", "fsync ms", *parts],
            [
                [
                    f"{each['replicas']}",
                    f"{each['rate']:,.0f}",
                    f"{each['p50_ms']:.2f}",
                    f"{each['p99_ms']:.2f}",
                    f"{each['rows_per_call']:.1f}",
                    f"{each['others_cores']:.2f}",
                    f"{each['fsync_ms']:.1f}",
                    *(f"{each['cpu_us'][part]:.0f}" for part in parts),
                ]
                for each in results
            ],
        ),
    ]


def headline(results: list[dict[str, Any]]) -> str:
    """Compare one replica with the most."""
    first, last = results[0], results[-1]
    return (
        f"{last['replicas']} replicas of inference instead of 1 on the same {os.cpu_count()} cores: "
        f"{last['rate']:,.0f} requests/s instead of {first['rate']:,.0f}."
    )


def panels(results: list[dict[str, Any]]) -> list[Panel]:
    """Draw the cost of each part."""
    series = {
        part: [(float(each["replicas"]), each["cpu_us"][part]) for each in results]
        for part in results[0]["cpu_us"]
        if part != "load generator"
    }
    return [lines(TITLE, "replicas", "CPU µs a request", series)]


def _under_load(stack: Stack, patients: Path) -> dict[str, Any]:
    with stack.recorder() as recorder:
        load(stack.gateway, patients, connections=CONNECTIONS, seconds=_WARMING_SECONDS)
        stack.drain(recorder)
        before, (rows, calls) = cpu_by_part(stack, recorder), _scored(stack)
        started, all_before = time.monotonic(), machine_cpu()
        with fsyncs(stack.folder) as waited:
            result = asdict(load(stack.gateway, patients, connections=CONNECTIONS, seconds=_SECONDS))
        own = sum(cpu_by_part(stack, recorder).values()) - sum(before.values())
        others = (machine_cpu() - all_before - own) / (time.monotonic() - started)
        stack.drain(recorder)
        after, (rows_then, calls_then) = cpu_by_part(stack, recorder), _scored(stack)
    used = {part: (after[part] - before[part]) / result["requests"] * 1e6 for part in after}
    per_call = (rows_then - rows) / max(calls_then - calls, 1)
    around = {"others_cores": max(0.0, others), "fsync_ms": statistics.mean(waited)}
    return result | {"cpu_us": used, "rows_per_call": per_call} | around


def _scored(stack: Stack) -> tuple[int, int]:
    """Return the number of rows that all replicas have scored, and of the calls with these rows."""
    return (
        sum(replica.metric("inference_batch_rows_sum") for replica in stack.replicas),
        sum(replica.metric("inference_batch_rows_count") for replica in stack.replicas),
    )
