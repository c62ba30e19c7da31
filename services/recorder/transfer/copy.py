"""Copy of one database's tables into another, in batches, so that it can be interrupted anywhere and resumed.

Rows are identified by their natural key: the primary key, or the unique constraint where the database generates the
primary key. A generated key is not copied: the target may have used the same number for another row.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    UniqueConstraint,
    cast,
    func,
    select,
    tuple_,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.db.database import Database, rejects_values
from services.recorder.db.inserts import insert_new, inserted_columns
from shared.failpoints import failpoint

BATCH = 2000
"""Rows per transaction; a batch of 1.3 KB rows is a few MB in memory."""
Key = tuple[Any, ...]
Values = tuple[Any, ...]
"""One row in the order of `inserted_columns`: text for UUIDs and JSON, aware datetimes, bytes, numbers."""


@lru_cache
def key_columns(table: Table) -> tuple[Column[Any], ...]:
    """Return the columns that identify a row in both databases."""
    if any(column.identity for column in table.primary_key):
        return tuple(next(c for c in table.constraints if isinstance(c, UniqueConstraint)).columns)
    return tuple(table.primary_key)


@lru_cache
def _key_places(table: Table) -> tuple[int, ...]:
    columns = inserted_columns(table)
    return tuple(columns.index(column) for column in key_columns(table))


def key_of(table: Table, row: Values) -> Key:
    """Return the key of a row."""
    return tuple(row[place] for place in _key_places(table))


async def count(reading: AsyncConnection, table: Table) -> int:
    """Return the number of rows of `table`."""
    return (await reading.execute(select(func.count()).select_from(table))).scalar_one()


async def key_batches(reading: AsyncConnection, table: Table) -> AsyncIterator[list[Key]]:
    """Yield all keys, at most `BATCH` at once, in the order of their own database."""
    keys = select(*key_columns(table)).order_by(*key_columns(table))
    async for batch in (await reading.stream(keys)).partitions(BATCH):
        yield [tuple(key) for key in batch]


async def read_rows(reading: AsyncConnection, table: Table, keys: Sequence[Key]) -> Sequence[Values]:
    """Return the rows of `keys` that exist, in the order of their own database."""
    statement = _values(table).where(_among(table, keys)).order_by(*key_columns(table))
    return [tuple(row) for row in await reading.execute(statement)]


async def read_all(reading: AsyncConnection, table: Table) -> list[dict[str, Any]]:
    """Return all rows of `table`, by the names of its columns."""
    return [dict(row) for row in (await reading.execute(select(table))).mappings()]


async def copy_table(
    reading: AsyncConnection, target: Database, table: Table, advance: Callable[[int], None]
) -> tuple[int, list[Key]]:
    """Copy the rows that the target lacks; return how many were inserted, and the keys of those it rejected.

    A batch whose keys all exist in the target is not read, so an interrupted copy resumes where it stopped. `advance`
    is called with the size of every batch.
    """
    copied, rejected = 0, list[Key]()
    async for keys in key_batches(reading, table):
        async with target.readers.connect() as connection:
            existing = await connection.execute(select(func.count()).select_from(table).where(_among(table, keys)))
        if existing.scalar_one() < len(keys):
            rows = await read_rows(reading, table, keys)
            inserted, bad_keys = await target.writer.transaction(partial(_insert_all, table, rows))
            failpoint("copy.committed")
            copied += inserted
            rejected += bad_keys
        advance(len(keys))
    return copied, rejected


def _insert_all(table: Table, rows: Sequence[Values], connection: Connection) -> tuple[int, list[Key]]:
    """Insert `rows`; halve them until a row that the target rejects (NUL in PostgreSQL's text) is alone."""
    try:
        with connection.begin_nested():
            inserted = insert_new(connection, table, rows)
    except DBAPIError as error:
        if not rejects_values(error):
            raise
    else:
        failpoint("copy.write")
        return inserted, []
    if len(rows) == 1:
        return 0, [key_of(table, rows[0])]
    half = len(rows) // 2
    first, second = (_insert_all(table, part, connection) for part in (rows[:half], rows[half:]))
    return first[0] + second[0], first[1] + second[1]


def _values(table: Table) -> Select[Any]:
    return select(*(cast(c, Text).label(c.name) if isinstance(c.type, JSON) else c for c in inserted_columns(table)))


def _among(table: Table, keys: Sequence[Key]) -> ColumnElement[bool]:
    columns = key_columns(table)
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return tuple_(*columns).in_(keys)
