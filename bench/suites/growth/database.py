"""Does the database stay as fast as it grows? Insert rate and usual queries at 10⁴, 10⁵ and 10⁶ rows.

SQLite in a folder of this disk, and a PostgreSQL server of its own, with fsync. Rows go in by the recorder's own
statements: those that are measured 500 per transaction, as it writes them; the others in large transactions before.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from bench.lib.plots import lines
from bench.lib.reports import table
from services.recorder.analysts.grants import serve_analysts
from services.recorder.api.queries import PredictionFilter, read_one, read_page
from services.recorder.db.database import open_database, read_url
from services.recorder.ingest.writes import write_batch
from shared.diseases.thyroid import DatosPaciente
from tests.support.postgres import postgres_server
from tests.support.rows import START, repeated, repeated_feedback_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from bench.lib.plots import Panel
    from services.recorder.db.database import Database

TITLE = "Rows in the database"
SIZES = (10_000, 100_000, 1_000_000)
_BATCH, _FILLED = 500, 50_000
"""Rows in a transaction: as a recorder writes them, and while a size is filled."""
_FILLING_KIB, _USUAL_KIB = 500_000, 2_000
"""SQLite's page cache meanwhile, and its default, with which the recorder works."""
_MEASURED = 5_000
"""The last rows of each size, whose rate is told."""
_REPEATS = 15
_QUESTIONS = (
    "newest page",
    "a class's page",
    "deep page",
    "a patient's page",
    "by id",
    "a day by diagnosis",
    "a day's agreement",
)
_DAY = """
SELECT output, count(*) AS respuestas, avg(tsh) AS tsh_media FROM predicciones_tiroides
WHERE timestamp >= '{since}' AND timestamp < '{until}' GROUP BY output ORDER BY output
"""
_AGREEMENT = """
SELECT output, count(*) AS juzgadas, avg(CASE WHEN aceptada THEN 1.0 ELSE 0.0 END) AS acuerdo FROM predicciones_tiroides
WHERE timestamp >= '{since}' AND timestamp < '{until}' AND aceptada IS NOT NULL GROUP BY output ORDER BY output
"""


def measure(folder: Path, model: Path) -> list[dict[str, Any]]:
    """Measure both databases; `model` is not asked."""
    del model
    found = asyncio.run(growing("SQLite", f"sqlite:///{folder}/predicciones.db", SIZES))
    with postgres_server(durable=True) as server:
        found += asyncio.run(growing("PostgreSQL", server.url(server.new_database()), SIZES))
    return found


def page(found: list[dict[str, Any]]) -> list[str]:
    """Give the table."""
    return [
        f"Insert rate of the last {_MEASURED:,} rows of each size; medians of {_REPEATS} answers, in ms.",
        "",
        *table(
            ["database, rows", "inserts/s", *_QUESTIONS],
            [
                [
                    f"{each['database']}, {each['rows']:,}",
                    f"{each['inserts_rate']:,.0f}",
                    *(f"{milliseconds:,.1f}" for milliseconds in each["p50_ms"].values()),
                ]
                for each in found
            ],
        ),
    ]


def headline(found: list[dict[str, Any]]) -> str:
    """Compare the smallest with the largest size."""
    said = []
    for database, of_it in _by_database(found).items():
        first, last = of_it[0], of_it[-1]
        quick, then = (each["p50_ms"][_QUESTIONS[0]] for each in (first, last))
        said.append(
            f"{database} takes {first['inserts_rate']:,.0f} inserts/s with {first['rows']:,} rows, "
            f"{last['inserts_rate']:,.0f} with {last['rows']:,}, and gives the {_QUESTIONS[0]} in {quick:.1f} and "
            f"{then:.1f} ms."
        )
    return " ".join(said)


def panels(found: list[dict[str, Any]]) -> list[Panel]:
    """Draw the insert rate, and what the read API and analysts ask."""
    of = _by_database(found)
    rates = {name: [(float(each["rows"]), each["inserts_rate"]) for each in of_it] for name, of_it in of.items()}
    shown = (_QUESTIONS[0], _QUESTIONS[-2])
    times = {
        f"{name}: {question}": [(float(each["rows"]), each["p50_ms"][question]) for each in of_it]
        for name, of_it in of.items()
        for question in shown
    }
    return [
        lines("Recording", "rows in the database", "inserts/s", rates, log="x"),
        lines("Asking", "rows in the database", "p50, ms", times, log="xy"),
    ]


def _by_database(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {name: [each for each in found if each["database"] == name] for name in ("SQLite", "PostgreSQL")}


async def growing(name: str, url: str, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Fill the database `name` at `url` up to each size, then ask; a size must be 5,000 above the one before."""
    found = []
    async with open_database(read_url(url)) as database:
        await serve_analysts(database.writer, DatosPaciente)
        held = 0
        for size in sizes:
            await database.writer.transaction(partial(_cached, kib=_FILLING_KIB))
            await _fill(database, held, size - _MEASURED, per_transaction=_FILLED)
            await database.writer.transaction(partial(_cached, kib=_USUAL_KIB))
            seconds = await _fill(database, size - _MEASURED, size, per_transaction=_BATCH)
            held = size
            await database.writer.transaction(_analysed)
            times = [await _median_ms(question) for question in _questions(database, size)]
            found.append(
                {
                    "database": name,
                    "rows": size,
                    "inserts_rate": _MEASURED / seconds,
                    "p50_ms": dict(zip(_QUESTIONS, times, strict=True)),
                }
            )
            print(f"growth: {name}, {size:,} rows: {_MEASURED / seconds:,.0f} inserts/s", flush=True)
    return found


def _cached(connection: Connection, kib: int) -> None:
    """Let SQLite keep more of the file in memory while it is only filled."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA cache_size = -{kib}")


def _analysed(connection: Connection) -> None:
    """Let PostgreSQL count its rows now: its autovacuum does so within a minute, and until then plans are guesses."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE")


async def _fill(database: Database, held: int, size: int, *, per_transaction: int) -> float:
    """Record rows `held` + 1 to `size`; returns the seconds that the database took for them."""
    seconds = 0.0
    for first in range(held + 1, size + 1, per_transaction):
        rows = list(repeated(first, min(per_transaction, size + 1 - first)))
        write = partial(write_batch, rows=[*rows, *repeated_feedback_of(rows)], dead_letters=(), now=datetime.now(UTC))
        started = time.perf_counter()
        await database.writer.transaction(write)
        seconds += time.perf_counter() - started
    return seconds


def _questions(database: Database, size: int) -> list[Callable[[], Awaitable[object]]]:
    """Give what a doctor's page, the read API and an analyst usually ask."""
    readers = database.readers
    middle = next(repeated(size // 2, 1))
    start = middle.timestamp.replace(hour=0, minute=0, second=0, microsecond=0)
    day = {"since": f"{max(start, START):%Y-%m-%d}", "until": f"{start + timedelta(days=1):%Y-%m-%d}"}

    async def ask(question: str) -> object:
        async with readers.connect() as connection:
            return (await connection.execute(text(question))).all()

    return [
        lambda: read_page(readers, PredictionFilter(limit=50)),
        lambda: read_page(readers, PredictionFilter(limit=50, output="hipertiroidismo")),
        lambda: read_page(readers, PredictionFilter(limit=50, until=middle.timestamp)),
        lambda: read_page(readers, PredictionFilter(limit=50, reference=middle.referencia)),
        lambda: read_one(readers, middle.id),
        partial(ask, _DAY.format(**day)),
        partial(ask, _AGREEMENT.format(**day)),
    ]


async def _median_ms(question: Callable[[], Awaitable[object]]) -> float:
    """Ask some times; returns the median, after one to warm up."""
    times = []
    for _ in range(_REPEATS + 1):
        started = time.perf_counter()
        await question()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[1:])
