"""Insert statements for many rows at once, in plain SQL: binding through Core costs as much as inserting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import JSON, Column, Connection, Table

from services.recorder.db.types import UUID_TEXT, UtcTimestamp, iso_utc

_SIZES = (256, 32, 4, 1)
"""Rows per statement on SQLite. Few sizes, because its driver keeps statements prepared by their text; many rows at
once, because each statement has to win the interpreter lock back."""
_ARRAYS = {"BIGINT": "bigint", "BOOLEAN": "boolean", "DOUBLE": "float8", "BLOB": "bytea"}


@dataclass(frozen=True, slots=True)
class BulkInsert:
    """The statements that insert rows of one table and skip rows whose key exists.

    PostgreSQL takes an array per column, whatever the number of rows.
    """

    postgresql: str
    sqlite: Mapping[int, str]
    timestamps: Sequence[int]
    """Positions of the columns that SQLite stores as text."""

    def run(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> int:
        """Insert `rows`, each with a value per column, in order; return how many were new."""
        if connection.dialect.name == "postgresql":
            arrays = tuple(map(list, zip(*rows, strict=True)))
            return connection.exec_driver_sql(self.postgresql, arrays).rowcount
        inserted = start = 0
        while start < len(rows):
            size = next(size for size in self.sqlite if size <= len(rows) - start)
            values = self._sqlite_values(rows[start : start + size])
            inserted += connection.exec_driver_sql(self.sqlite[size], values).rowcount
            start += size
        return inserted

    def _sqlite_values(self, rows: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
        values, width = list(chain.from_iterable(rows)), len(rows[0])
        for place in self.timestamps:
            values[place::width] = map(_text, values[place::width])
        return tuple(values)


@lru_cache(maxsize=8)  # all rows of a transaction have one moment of recording
def _text(moment: datetime | None) -> str | None:
    return None if moment is None else iso_utc(moment)


@cache
def bulk_insert(table: Table, columns: tuple[Column[Any], ...]) -> BulkInsert:
    """Return the statements that insert `columns` of `table`."""
    names = ", ".join(f'"{column.name}"' for column in columns)
    into, end = f'INSERT INTO "{table.name}" ({names})', "ON CONFLICT DO NOTHING"
    places = f"({', '.join('?' * len(columns))})"
    sqlite = {size: f"{into} VALUES {', '.join([places] * size)} {end}" for size in _SIZES}
    timestamps = [n for n, column in enumerate(columns) if isinstance(column.type, UtcTimestamp)]
    return BulkInsert(f"{into} {_unnested(columns)} {end}", sqlite, timestamps)


def _unnested(columns: Sequence[Column[Any]]) -> str:
    """Return a SELECT of arrays, one parameter per column: $1, $2 and so on."""
    selected = ", ".join(f"c{n}{_cast(column)}" for n, column in enumerate(columns))
    arrays = ", ".join(f"${n + 1}::{_array(column)}[]" for n, column in enumerate(columns))
    aliases = ", ".join(f"c{n}" for n in range(len(columns)))
    return f"SELECT {selected} FROM unnest({arrays}) AS arrays({aliases})"  # noqa: S608 - our names


def _cast(column: Column[Any]) -> str:
    if isinstance(column.type, JSON):
        return "::jsonb"
    return "::uuid" if column.type is UUID_TEXT else ""


def _array(column: Column[Any]) -> str:
    return "timestamptz" if isinstance(column.type, UtcTimestamp) else _ARRAYS.get(str(column.type), "text")
