"""Copying one database's tables into another, batch by batch, so that it can be cut anywhere and run again.

Rows are recognised by their natural key: the primary key, or the unique constraint where the database itself counts the
primary key. A counted key is not copied: the target may have given the same number to another row.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, ColumnElement, Select, Table, Text, UniqueConstraint, cast, func, select, tuple_
from sqlalchemy.exc import DBAPIError

from services.recorder.db.database import refuses_values
from services.recorder.db.inserts import bulk_insert
from shared.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Column, Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from services.recorder.db.database import Database

BATCH = 2000
"""Rows per transaction; a batch of 1.3 KB rows is a few MB in memory."""
Key = tuple[Any, ...]
Values = tuple[Any, ...]
"""One row, in the order of `copied_columns`: text for UUIDs and JSON, aware datetimes, bytes, numbers."""


@lru_cache
def key_columns(table: Table) -> tuple[Column[Any], ...]:
    """Give the columns that tell which row it is, in both databases."""
    if any(column.identity for column in table.primary_key):
        return tuple(next(c for c in table.constraints if isinstance(c, UniqueConstraint)).columns)
    return tuple(table.primary_key)


@lru_cache
def copied_columns(table: Table) -> tuple[Column[Any], ...]:
    """Give the columns that are copied and compared: all that the database does not count by itself."""
    return tuple(column for column in table.columns if not column.identity)


@lru_cache
def key_places(table: Table) -> tuple[int, ...]:
    """Say where in `Values` the key is."""
    columns = copied_columns(table)
    return tuple(columns.index(column) for column in key_columns(table))


async def count(reading: AsyncConnection, table: Table) -> int:
    """Count the rows."""
    return (await reading.execute(select(func.count()).select_from(table))).scalar_one()


async def read_keys(reading: AsyncConnection, table: Table, after: Key | None) -> list[Key]:
    """Read the next keys, at most `BATCH`, in the order of their own database."""
    statement = select(*key_columns(table)).order_by(*key_columns(table)).limit(BATCH)
    if after is not None:
        statement = statement.where(_key(table) > after)
    return [tuple(row) for row in await reading.execute(statement)]


async def read_span(reading: AsyncConnection, table: Table, after: Key | None, last: Key) -> Sequence[Values]:
    """Read the rows after `after`, up to `last`."""
    statement = _values(table).where(_key(table) <= last).order_by(*key_columns(table))
    if after is not None:
        statement = statement.where(_key(table) > after)
    return [tuple(row) for row in await reading.execute(statement)]


async def read_those(reading: AsyncConnection, table: Table, keys: Sequence[Key]) -> Sequence[Values]:
    """Read the rows of `keys` that are there."""
    return [tuple(row) for row in await reading.execute(_values(table).where(_among(table, keys)))]


async def copy_table(
    reading: AsyncConnection, target: Database, table: Table, told: Callable[[int], None]
) -> tuple[int, list[Key]]:
    """Copy what the target lacks; returns how many rows went in, and the keys of those it refused.

    A batch whose keys are all there is not read: that is how it goes on where it was cut. `told` hears of every batch.
    """
    copied, refused = 0, list[Key]()
    after: Key | None = None
    while keys := await read_keys(reading, table, after):
        async with target.readers.connect() as connection:
            there = await connection.execute(select(func.count()).select_from(table).where(_among(table, keys)))
        if there.scalar_one() < len(keys):
            rows = await read_span(reading, table, after, keys[-1])
            written, bad = await target.writer.transaction(partial(_insert_all, table, rows))
            failpoint("copy.committed")
            copied += written
            refused += bad
        after = keys[-1]
        told(len(keys))
    return copied, refused


def _insert_all(table: Table, rows: Sequence[Values], connection: Connection) -> tuple[int, list[Key]]:
    """Insert `rows`, halving a batch until a value that the target refuses (NUL in PostgreSQL's text) is alone."""
    try:
        with connection.begin_nested():
            written = bulk_insert(table, copied_columns(table)).run(connection, rows)
    except DBAPIError as error:
        if not refuses_values(error):
            raise
    else:
        failpoint("copy.write")
        return written, []
    if len(rows) == 1:
        return 0, [tuple(rows[0][place] for place in key_places(table))]
    half = len(rows) // 2
    first, second = (_insert_all(table, part, connection) for part in (rows[:half], rows[half:]))
    return first[0] + second[0], first[1] + second[1]


def _values(table: Table) -> Select[Any]:
    return select(*(cast(c, Text).label(c.name) if isinstance(c.type, JSON) else c for c in copied_columns(table)))


def _key(table: Table) -> Any:  # noqa: ANN401 - SQLAlchemy's tuple, which its types cannot name
    return tuple_(*key_columns(table))


def _among(table: Table, keys: Sequence[Key]) -> ColumnElement[bool]:
    columns = key_columns(table)
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return tuple_(*columns).in_(keys)
