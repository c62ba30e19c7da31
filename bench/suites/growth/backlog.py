"""A backlog of 0 to 10⁶ answers in the outbox: how fast the gateway answers beside it, and how fast it drains.

The gateway runs without a broker first, so that the backlog stays; then with RabbitMQ and a recorder into PostgreSQL.
"""

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from bench.lib.inputs import write_patients
from bench.lib.plots import Panel, lines
from bench.lib.reports import table
from bench.lib.wrk import load
from services.gateway.ids import new_id
from services.gateway.outbox.database import OutboxFile
from tests.support.bundles import copy_model
from tests.support.enrolment import enrolment
from tests.support.postgres import postgres_server
from tests.support.processes import serving
from tests.support.rabbitmq import rabbit_server
from tests.support.recorder_suite import event
from tests.support.stack import LOOK_SECONDS

TITLE = "Answers that wait in the outbox"
SIZES = (0, 10_000, 100_000, 1_000_000)
CONNECTIONS = 32
_PER_COMMIT = 16
_WARMING_SECONDS, _SECONDS, _DRAINING_SECONDS = 1, 4, 8
_PENDING = "predecir_outbox_pending"


def measure(folder: Path, model: Path) -> list[dict[str, Any]]:
    """Measure each size with a new outbox."""
    patients = write_patients(folder / "patients.jsonl")
    home = folder / "inference"
    home.mkdir()
    copy_model(home, model)
    results = []
    with ExitStack() as opened:
        rabbit, postgres = opened.enter_context(rabbit_server()), opened.enter_context(postgres_server(durable=True))
        inference = opened.enter_context(serving([sys.executable, "-m", "services.inference"], home))
        environment = {"INFERENCE_URL": f"http://127.0.0.1:{inference.port}", "OUTBOX_MAX_EVENTS": "10000000"}
        for size in SIZES:
            at = folder / str(size)
            outbox = at / "var" / "gateway" / "outbox.db"
            fill(outbox, size)
            with serving([sys.executable, "-m", "services.gateway"], at, environment) as gateway:
                load(gateway, patients, connections=CONNECTIONS, seconds=_WARMING_SECONDS)
                loaded = asdict(load(gateway, patients, connections=CONNECTIONS, seconds=_SECONDS))
            one = {"backlog": size, **loaded, "ready_seconds": gateway.ready_seconds}
            one["file_mb"] = outbox.stat().st_size / 1e6
            database = postgres.url(postgres.new_database())
            one["drain_rate"] = _drain_rate(
                at, environment | enrolment(at) | {"BROKER_URL": rabbit.url, "DATABASE_URL": database}
            )
            results.append(one)
            print(f"growth: {size:,} in the outbox: {one['rate']:,.0f} requests/s", flush=True)
    return results


def fill(path: Path, size: int) -> None:
    """Create an outbox with `size` answers, several per commit, as a gateway with many connections writes them."""
    file = OutboxFile(path, keep_answers=60)
    file.connection.execute("PRAGMA synchronous = OFF")  # data that only fill the outbox need no fsync
    template = event()
    known = orjson.loads(template)["id"].encode()
    for first in range(1, size + 1, _PER_COMMIT):
        events = [template.replace(known, new_id().encode()) for _ in range(min(_PER_COMMIT, size + 1 - first))]
        file.write([(each, None) for each in events], first)
    file.close()


def page(results: list[dict[str, Any]]) -> list[str]:
    """Return the table."""
    return [
        (
            f"wrk with {CONNECTIONS} connections for {_SECONDS} s on a gateway without a broker, beside one inference; "
            f"then RabbitMQ and a recorder into PostgreSQL, for {_DRAINING_SECONDS} s or until the outbox is empty."
        ),
        "",
        *table(
            ["in the outbox", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "ready s", "file MB", "drained/s"],
            [
                [
                    f"{each['backlog']:,}",
                    f"{each['rate']:,.0f}",
                    f"{each['p50_ms']:.2f}",
                    f"{each['p99_ms']:.2f}",
                    f"{each['cpu_us']:.0f}",
                    f"{each['ready_seconds']:.1f}",
                    f"{each['file_mb']:,.0f}",
                    f"{each['drain_rate']:,.0f}",
                ]
                for each in results
            ],
        ),
    ]


def headline(results: list[dict[str, Any]]) -> str:
    """Compare an empty outbox with the fullest."""
    first, last = results[0], results[-1]
    return (
        f"With {last['backlog']:,} answers waiting in the outbox ({last['file_mb']:,.0f} MB) the gateway gives "
        f"{last['rate']:,.0f} requests/s, with none {first['rate']:,.0f}; it drains {last['drain_rate']:,.0f} a second."
    )


def panels(results: list[dict[str, Any]]) -> list[Panel]:
    """Draw both rates; an empty outbox stands at 1, for the axis has no 0."""
    series = {
        label: [(float(max(each["backlog"], 1)), each[name]) for each in results]
        for label, name in (("answered", "rate"), ("drained", "drain_rate"))
    }
    return [lines(TITLE, "answers in the outbox before", "per second", series, log="x")]


def _drain_rate(home: Path, environment: Mapping[str, str]) -> float:
    """Drain the outbox of `home`; return the answers per second that left it."""
    recording = home / "recorder"
    recording.mkdir()
    with (
        serving([sys.executable, "-m", "services.recorder"], recording, environment),
        serving([sys.executable, "-m", "services.gateway"], home, environment) as gateway,
    ):
        pending, started = gateway.metric(_PENDING), time.monotonic()
        left = pending
        while left and time.monotonic() < started + _DRAINING_SECONDS:
            time.sleep(LOOK_SECONDS)
            left = gateway.metric(_PENDING)
        return (pending - left) / (time.monotonic() - started)
