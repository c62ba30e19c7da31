"""Copying and comparing in process, where the moment of every step can be chosen."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench.rows import made_up
from services.recorder.db.database import open_database, read_url
from services.recorder.db.tables import PREDICCIONES
from services.recorder.ingest.writes import write_batch
from services.recorder.transfer.copy import BATCH, copy_table, count
from services.recorder.transfer.verify import compare_table
from tests.support.recorder_suite import START

if TYPE_CHECKING:
    from pathlib import Path

    from services.recorder.db.database import Database


async def add(database: Database, first: int, number: int) -> None:
    rows = list(made_up(first, number))
    await database.writer.transaction(partial(write_batch, rows=rows, dead_letters=(), now=START))


async def test_what_is_recorded_while_it_copies_is_left_for_the_next_run(tmp_path: Path) -> None:
    first, later = BATCH + 1, 7
    told: list[int] = []
    async with (
        open_database(read_url(f"sqlite:///{tmp_path}/one.db")) as source,
        open_database(read_url(f"sqlite:///{tmp_path}/two.db")) as target,
    ):
        await add(source, 1, first)
        async with source.readers.connect() as reading:
            assert await count(reading, PREDICCIONES) == first
            await add(source, first + 1, later)
            assert await copy_table(reading, target, PREDICCIONES, told.append) == (first, [])
            result = await compare_table(reading, target, PREDICCIONES, told.append)
        assert (result.equal, result.source_rows, result.target_rows) == (True, first, first)
        assert told == [BATCH, 1] * 2

        async with source.readers.connect() as reading:
            assert await copy_table(reading, target, PREDICCIONES, told.append) == (later, [])
            result = await compare_table(reading, target, PREDICCIONES, told.append)
        assert (result.equal, result.source_rows, result.target_rows) == (True, first + later, first + later)


async def test_a_row_that_lacks_is_told_by_its_key_and_by_digests_that_differ(tmp_path: Path) -> None:
    told: list[int] = []
    async with (
        open_database(read_url(f"sqlite:///{tmp_path}/one.db")) as source,
        open_database(read_url(f"sqlite:///{tmp_path}/two.db")) as target,
    ):
        await add(source, 1, 3)
        await add(target, 1, 2)
        async with source.readers.connect() as reading:
            result = await compare_table(reading, target, PREDICCIONES, told.append)

    (lacking,) = made_up(3, 1)
    assert result.missing == [(lacking.id,)]
    assert not result.equal
    assert result.digests[0] != result.digests[1]
