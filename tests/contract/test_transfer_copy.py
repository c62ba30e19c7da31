"""Copy and comparison in process, where a test controls the order of steps."""

from functools import partial
from pathlib import Path

from services.recorder.db.database import Database, open_database
from services.recorder.db.tables import PREDICCIONES
from services.recorder.ingest.writes import write_batch
from services.recorder.transfer.copy import BATCH, copy_table, count
from services.recorder.transfer.verify import compare_table
from shared.database_url import read_url
from tests.support.recorder_suite import START
from tests.support.rows import made_up


async def add(database: Database, first: int, number: int) -> None:
    rows = list(made_up(first, number))
    await database.writer.transaction(partial(write_batch, rows=rows, dead_letters=(), now=START))


async def test_rows_recorded_during_a_copy_are_copied_by_the_next(tmp_path: Path) -> None:
    first, later = BATCH + 1, 7
    batches: list[int] = []
    async with (
        open_database(read_url(f"sqlite:///{tmp_path}/one.db")) as source,
        open_database(read_url(f"sqlite:///{tmp_path}/two.db")) as target,
    ):
        await add(source, 1, first)
        async with source.readers.connect() as reading:
            assert await count(reading, PREDICCIONES) == first
            await add(source, first + 1, later)
            assert await copy_table(reading, target, PREDICCIONES, batches.append) == (first, [])
            comparison = await compare_table(reading, target, PREDICCIONES, batches.append)
        assert (comparison.source_rows, comparison.target_rows) == (first, first)
        assert not comparison.missing + comparison.different
        assert batches == [BATCH, 1] * 2

        async with source.readers.connect() as reading:
            assert await copy_table(reading, target, PREDICCIONES, batches.append) == (later, [])
            comparison = await compare_table(reading, target, PREDICCIONES, batches.append)
        assert (comparison.source_rows, comparison.target_rows) == (first + later, first + later)
        assert not comparison.missing + comparison.different


async def test_a_missing_row_is_reported_by_its_key_and_the_digests(tmp_path: Path) -> None:
    batches: list[int] = []
    async with (
        open_database(read_url(f"sqlite:///{tmp_path}/one.db")) as source,
        open_database(read_url(f"sqlite:///{tmp_path}/two.db")) as target,
    ):
        await add(source, 1, 3)
        await add(target, 1, 2)
        async with source.readers.connect() as reading:
            comparison = await compare_table(reading, target, PREDICCIONES, batches.append)

    (absent,) = made_up(3, 1)
    assert (comparison.missing, comparison.different) == ([(absent.id,)], [])
    assert comparison.digests[0] != comparison.digests[1]
