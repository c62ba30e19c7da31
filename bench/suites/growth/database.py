"""Speed of the database by its size: insert rate and usual queries at 10⁴, 10⁵ and 10⁶ rows.

SQLite in a folder on this disk, and a new PostgreSQL server with fsync. Rows are inserted with the recorder's own
statements: measured rows 500 per transaction, as the recorder does; all others before, in large transactions.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from bench.lib.plots import Panel, lines
from bench.lib.reports import table
from services.recorder.analysts.grants import serve_analysts
from services.recorder.api.models import Filtro
from services.recorder.api.queries import read_one, read_page
from services.recorder.db.database import Database, open_database
from services.recorder.ingest.writes import write_batch
from shared.database_url import read_url
from shared.diseases.thyroid import DatosPaciente
from tests.support.postgres import postgres_server
from tests.support.rows import START, repeated, repeated_feedback_of

TITLE = "Rows in the database"
SIZES = (10_000, 100_000, 1_000_000)
_BATCH, _FILLED = 500, 50_000
"""Rows in a transaction: as a recorder writes them, and while a size is filled."""
_FILLING_KIB, _USUAL_KIB = 500_000, 2_000
"""SQLite's page cache while a size is filled, and its default, which the recorder uses."""
_MEASURED = 5_000
"""Number of the last rows of each size, whose insert rate is measured."""
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
    """Measure both databases; `model` is not used."""
    del model
    results = asyncio.run(growing("SQLite", f"sqlite:///{folder}/predicciones.db", SIZES))
    with postgres_server(durable=True) as server:
        results += asyncio.run(growing("PostgreSQL", server.url(server.new_database()), SIZES))
    return results


def page(results: list[dict[str, Any]]) -> list[str]:
    """Return the table."""
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
                for each in results
            ],
        ),
    ]


def headline(results: list[dict[str, Any]]) -> str:
    """Compare the smallest with the largest size."""
    sentences = []
    for database, of_it in _by_database(results).items():
        first, last = of_it[0], of_it[-1]
        quick, then = (each["p50_ms"][_QUESTIONS[0]] for each in (first, last))
        sentences.append(
            f"{database} takes {first['inserts_rate']:,.0f} inserts/s with {first['rows']:,} rows, "
            f"{last['inserts_rate']:,.0f} with {last['rows']:,}, and gives the {_QUESTIONS[0]} in {quick:.1f} and "
            f"{then:.1f} ms."
        )
    return " ".join(sentences)


def panels(results: list[dict[str, Any]]) -> list[Panel]:
    """Draw the insert rate, and the queries of the read API and of analysts."""
    of = _by_database(results)
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


def _by_database(results: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {name: [each for each in results if each["database"] == name] for name in ("SQLite", "PostgreSQL")}


async def growing(name: str, url: str, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Fill the database `name` at `url` up to each size and run the queries; sizes must be at least 5,000 apart."""
    results = []
    async with open_database(read_url(url)) as database:
        await serve_analysts(database.writer, DatosPaciente, ZoneInfo("UTC"))
        present = 0
        for size in sizes:
            await database.writer.transaction(partial(_cached, kib=_FILLING_KIB))
            await _fill(database, present, size - _MEASURED, per_transaction=_FILLED)
            await database.writer.transaction(partial(_cached, kib=_USUAL_KIB))
            seconds = await _fill(database, size - _MEASURED, size, per_transaction=_BATCH)
            present = size
            await database.writer.transaction(_analysed)
            times = [await _median_ms(question) for question in _questions(database, size)]
            results.append(
                {
                    "database": name,
                    "rows": size,
                    "inserts_rate": _MEASURED / seconds,
                    "p50_ms": dict(zip(_QUESTIONS, times, strict=True)),
                }
            )
            print(f"growth: {name}, {size:,} rows: {_MEASURED / seconds:,.0f} inserts/s", flush=True)
    return results


def _cached(connection: Connection, kib: int) -> None:
    """Enlarge SQLite's page cache while the database is only filled."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA cache_size = -{kib}")


def _analysed(connection: Connection) -> None:
    """Run ANALYZE on PostgreSQL: autovacuum does so within a minute, and until then plans rest on guesses."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE")


async def _fill(database: Database, present: int, size: int, *, per_transaction: int) -> float:
    """Record rows `present` + 1 to `size`; return the seconds that the database took for them."""
    seconds = 0.0
    for first in range(present + 1, size + 1, per_transaction):
        rows = list(repeated(first, min(per_transaction, size + 1 - first)))
        write = partial(write_batch, rows=[*rows, *repeated_feedback_of(rows)], dead_letters=(), now=datetime.now(UTC))
        started = time.perf_counter()
        await database.writer.transaction(write)
        seconds += time.perf_counter() - started
    return seconds


def _questions(database: Database, size: int) -> list[Callable[[], Awaitable[object]]]:
    """Return the usual queries of the doctor's page, the read API and an analyst, by name."""
    readers = database.readers
    middle = next(repeated(size // 2, 1))
    start = middle.timestamp.replace(hour=0, minute=0, second=0, microsecond=0)
    day = {"since": f"{max(start, START):%Y-%m-%d}", "until": f"{start + timedelta(days=1):%Y-%m-%d}"}

    async def ask(question: str) -> object:
        async with readers.connect() as connection:
            return (await connection.execute(text(question))).all()

    return [
        lambda: read_page(readers, Filtro(limite=50)),
        lambda: read_page(readers, Filtro(limite=50, output="hipertiroidismo")),
        lambda: read_page(readers, Filtro(limite=50, hasta=middle.timestamp)),
        lambda: read_page(readers, Filtro(limite=50, referencia=middle.referencia)),
        lambda: read_one(readers, middle.id),
        partial(ask, _DAY.format(**day)),
        partial(ask, _AGREEMENT.format(**day)),
    ]


async def _median_ms(question: Callable[[], Awaitable[object]]) -> float:
    """Run a query several times, after one warm-up; return the median time."""
    times = []
    for _ in range(_REPEATS + 1):
        started = time.perf_counter()
        await question()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[1:])
