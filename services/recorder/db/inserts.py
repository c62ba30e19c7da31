"""Inserts of many rows at once, in plain SQL: binding through Core costs as much as inserting."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import JSON, Column, Connection, Table

from services.recorder.db.types import UUID_TEXT, UtcTimestamp, iso_utc

_SIZES = (256, 32, 4, 1)
"""Rows per statement on SQLite. Few sizes, because its driver keeps statements prepared by their text; many rows at
once, because each statement has to win the interpreter lock back."""
_ARRAYS = {"BIGINT": "bigint", "BOOLEAN": "boolean", "DOUBLE": "float8", "BLOB": "bytea"}


@cache
def inserted_columns(table: Table) -> tuple[Column[Any], ...]:
    """Return the columns of `table` but a key that the database generates."""
    return tuple(column for column in table.columns if not column.identity)


def insert_new(connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> int:
    """Insert the `rows` whose key does not exist, each with a value per `inserted_columns`, in order; return how many.

    PostgreSQL takes an array per column, whatever the number of rows.
    """
    if connection.dialect.name == "postgresql":
        arrays = tuple(map(list, zip(*rows, strict=True)))
        return connection.exec_driver_sql(_postgresql(table), arrays).rowcount
    inserted = start = 0
    while start < len(rows):
        size = next(size for size in _SIZES if size <= len(rows) - start)
        values = _sqlite_values(table, rows[start : start + size])
        inserted += connection.exec_driver_sql(_sqlite(table, size), values).rowcount
        start += size
    return inserted


def _sqlite_values(table: Table, rows: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    values, width = list(chain.from_iterable(rows)), len(rows[0])
    for place, column in enumerate(inserted_columns(table)):
        if isinstance(column.type, UtcTimestamp):
            values[place::width] = _texts(values[place::width])
    return tuple(values)


def _texts(moments: Sequence[datetime | None]) -> list[str | None]:
    """Return `moments` as text; the rows of a transaction share one moment of recording, which is written once."""
    first = moments[0]
    shared = None if first is None else iso_utc(first)
    return [shared if moment is first else None if moment is None else iso_utc(moment) for moment in moments]


@cache
def _sqlite(table: Table, size: int) -> str:
    places = f"({', '.join('?' * len(inserted_columns(table)))})"
    return _statement(table, f"VALUES {', '.join([places] * size)}")


@cache
def _postgresql(table: Table) -> str:
    """Return the insert of a SELECT of arrays, one parameter per column: $1, $2 and so on."""
    columns = inserted_columns(table)
    selected = ", ".join(f"c{n}{_cast(column)}" for n, column in enumerate(columns))
    arrays = ", ".join(f"${n + 1}::{_array(column)}[]" for n, column in enumerate(columns))
    aliases = ", ".join(f"c{n}" for n in range(len(columns)))
    return _statement(table, f"SELECT {selected} FROM unnest({arrays}) AS arrays({aliases})")  # noqa: S608 - our names


def _statement(table: Table, source: str) -> str:
    names = ", ".join(f'"{column.name}"' for column in inserted_columns(table))
    return f'INSERT INTO "{table.name}" ({names}) {source} ON CONFLICT DO NOTHING'


def _cast(column: Column[Any]) -> str:
    if isinstance(column.type, JSON):
        return "::jsonb"
    return "::uuid" if column.type is UUID_TEXT else ""


def _array(column: Column[Any]) -> str:
    return "timestamptz" if isinstance(column.type, UtcTimestamp) else _ARRAYS.get(str(column.type), "text")
