"""Verification of a copy: a digest per row, computed alike from both databases.

The digest covers all copied columns: times to the microsecond, floats to the last bit, JSON by meaning, because
`jsonb` keeps neither the order of keys nor the spelling of numbers.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import JSON, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.db.database import Database
from services.recorder.db.inserts import inserted_columns
from services.recorder.db.types import iso_utc
from services.recorder.transfer.copy import Key, Values, count, key_batches, key_of, read_rows

_MODULUS = 1 << 256


@dataclass(slots=True)
class Comparison:
    """The comparison of a table: row counts, the keys of missing and different rows, and the sums of the digests."""

    table: str
    source_rows: int = 0
    target_rows: int = 0
    missing: list[Key] = field(default_factory=list)
    different: list[Key] = field(default_factory=list)
    _sums: list[int] = field(default_factory=lambda: [0, 0])

    @property
    def digests(self) -> tuple[str, str]:
        """Sums of the rows' SHA-256 modulo 2^256, thus in any order: of the source, and of its keys in the target."""
        return f"{self._sums[0]:064x}", f"{self._sums[1]:064x}"

    def add(self, key: Key, source: bytes, target: bytes | None) -> None:
        """Count one row by its digest in both databases; None if the target lacks it."""
        self.source_rows += 1
        self._sums[0] = (self._sums[0] + int.from_bytes(source, "big")) % _MODULUS
        if target is None:
            self.missing.append(key)
            return
        self._sums[1] = (self._sums[1] + int.from_bytes(target, "big")) % _MODULUS
        if source != target:
            self.different.append(key)


async def compare_table(
    reading: AsyncConnection, target: Database, table: Table, advance: Callable[[int], None]
) -> Comparison:
    """Compare every row that `reading` returns with the row of the same key in `target`.

    `advance` is called with the size of every batch.
    """
    comparison = Comparison(table.name)
    async for keys in key_batches(reading, table):
        async with target.readers.connect() as connection:
            digests = {key_of(table, row): row_digest(table, row) for row in await read_rows(connection, table, keys)}
        for row in await read_rows(reading, table, keys):
            key = key_of(table, row)
            comparison.add(key, row_digest(table, row), digests.get(key))
        advance(len(keys))
    async with target.readers.connect() as connection:
        comparison.target_rows = await count(connection, table)
    return comparison


def row_digest(table: Table, row: Values) -> bytes:
    """Return the SHA-256 of a row's canonical form: JSON with sorted keys, numbers by value."""
    pairs = zip(inserted_columns(table), row, strict=True)
    canonical = [_canonical(value, is_json=isinstance(column.type, JSON)) for column, value in pairs]
    return hashlib.sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).digest()


def _canonical(value: Any, *, is_json: bool) -> Any:  # noqa: ANN401 - a column's value
    if isinstance(value, datetime):
        return iso_utc(value)
    if isinstance(value, bytes):
        return value.hex()
    if not is_json or value is None:
        return value
    try:
        return _plain(orjson.loads(value))
    except orjson.JSONDecodeError:  # SQLite accepts any text
        return value


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Convert equal numbers to one form: 5, 5.0 and 5e0 are one number in `jsonb`. Keep an integer that is no float."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        exact = float(value) + 0.0  # -0.0 becomes 0.0
        return exact if exact == value else value
    return value
