"""`python -m bench.database`: does the database stay as fast as it grows? Insert rate and usual queries at three sizes.

SQLite in a temporary folder, and a PostgreSQL server of its own with the tests' settings (fsync off, so its insert rate
is that of its tables and indexes, not of this disk). Rows go in as the recorder writes them, 500 per transaction.
`python -m bench.database 10000 100000` for other sizes.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import text

from bench.rows import START, made_up, reference_of, said_of
from services.recorder.analysts import serve_analysts
from services.recorder.database import open_database, read_url
from services.recorder.queries import Wanted, read_one, read_page
from services.recorder.writing import write_batch
from shared.diseases.thyroid import DatosPaciente
from tests.postgres import postgres_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.recorder.database import Database

SIZES = (10_000, 100_000, 1_000_000)
_BATCH = 500
_MEASURED = 5_000
"""The last rows of each size, whose rate is told."""
_REPEATS = 15
_DAY = """
SELECT output, count(*) AS respuestas, avg(tsh) AS tsh_media FROM predicciones_tiroides
WHERE timestamp >= '{since}' AND timestamp < '{until}' GROUP BY output ORDER BY output
"""
_AGREEMENT = """
SELECT output, count(*) AS juzgadas, avg(CASE WHEN aceptada THEN 1.0 ELSE 0.0 END) AS acuerdo FROM predicciones_tiroides
WHERE timestamp >= '{since}' AND timestamp < '{until}' AND aceptada IS NOT NULL GROUP BY output ORDER BY output
"""


async def main(sizes: list[int]) -> None:
    """Measure both databases and print a table each."""
    with tempfile.TemporaryDirectory(prefix="predecir-bench-") as folder:
        await measure("SQLite", f"sqlite:///{folder}/predicciones.db", sizes)
    with postgres_server() as server:
        await measure("PostgreSQL", server.url(server.new_database()), sizes)


async def measure(name: str, url: str, sizes: list[int]) -> None:
    """Fill up to each size, then ask."""
    async with open_database(read_url(url)) as database:
        await serve_analysts(database.writer, DatosPaciente)
        print(
            f"\n{name}\n| rows | inserts/s | newest page | a class's page | deep page | a patient's page | by id "
            "| a day, by diagnosis | a day's agreement |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        held = 0
        for size in sizes:
            await fill(database, held, size - _MEASURED)
            rate = _MEASURED / await fill(database, size - _MEASURED, size)
            held = size
            times = [await median_ms(question) for question in questions(database, size)]
            print(f"| {size:,} | {rate:,.0f} | {' | '.join(f'{ms:.1f} ms' for ms in times)} |", flush=True)


async def fill(database: Database, held: int, size: int) -> float:
    """Record rows `held` + 1 to `size`; returns the seconds that the database took for them."""
    seconds = 0.0
    for first in range(held + 1, size + 1, _BATCH):
        rows = list(made_up(first, min(_BATCH, size + 1 - first)))
        write = partial(write_batch, rows=[*rows, *said_of(rows)], poison=(), now=datetime.now(UTC))
        started = time.perf_counter()
        await database.writer.transaction(write)
        seconds += time.perf_counter() - started
    return seconds


def questions(database: Database, size: int) -> list[Callable[[], Awaitable[object]]]:
    """Give what a doctor's page, the read API and an analyst usually ask."""
    readers = database.readers
    middle = next(made_up(size // 2, 1))
    start = middle.timestamp.replace(hour=0, minute=0, second=0, microsecond=0)
    day = {"since": f"{max(start, START):%Y-%m-%d}", "until": f"{start + timedelta(days=1):%Y-%m-%d}"}

    async def ask(question: str) -> object:
        async with readers.connect() as connection:
            return (await connection.execute(text(question))).all()

    return [
        lambda: read_page(readers, Wanted(limit=50)),
        lambda: read_page(readers, Wanted(limit=50, output="hipertiroidismo")),
        lambda: read_page(readers, Wanted(limit=50, until=middle.timestamp)),
        lambda: read_page(readers, Wanted(limit=50, reference=reference_of(4711))),
        lambda: read_one(readers, middle.id),
        partial(ask, _DAY.format(**day)),
        partial(ask, _AGREEMENT.format(**day)),
    ]


async def median_ms(question: Callable[[], Awaitable[object]]) -> float:
    """Ask some times; returns the median, after one to warm up."""
    times = []
    for _ in range(_REPEATS + 1):
        started = time.perf_counter()
        await question()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[1:])


if __name__ == "__main__":
    asyncio.run(main([int(size) for size in sys.argv[1:]] or list(SIZES)))
