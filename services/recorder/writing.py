"""What one batch does to the tables, inside the transaction it is given. The same steps on both databases."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from services.recorder.columns import iso_utc
from services.recorder.database import refuses_values
from services.recorder.rows import Poison, Row, poisoned
from services.recorder.schema import CUARENTENA, DUPLICADOS, PREDICCIONES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Table
    from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
    from sqlalchemy.dialects.sqlite import Insert as SqliteInsert

_COLUMNS = tuple(column.name for column in PREDICCIONES.columns)
_TYPES = {"timestamp": "timestamptz", "registrado": "timestamptz", "seq": "bigint", "probabilidad": "float8"}
_CASTS = {"id": "::uuid", "inputs": "::jsonb", "probabilidades": "::jsonb"}
_LOOKED_UP = 500
"""Ids per look-up, far below what either database takes."""

# Plain SQL for the one statement that runs for every event: binding through Core costs as much as inserting. Rows go in
# together, because each statement has to win the interpreter lock back; of a few sizes, because SQLite's driver keeps
# statements prepared by their text. PostgreSQL takes an array per column, whatever the size of the batch.
_INSERT_SQLITE = {
    size: f"INSERT INTO predicciones ({', '.join(_COLUMNS)}) VALUES "  # noqa: S608 - our names
    + ", ".join([f"({', '.join('?' * len(_COLUMNS))})"] * size)
    + " ON CONFLICT (id) DO NOTHING"
    for size in (256, 32, 4, 1)
}
_INSERT_POSTGRES = (
    f"INSERT INTO predicciones ({', '.join(_COLUMNS)}) "  # noqa: S608 - our names
    f"SELECT {', '.join(f'c{n}' + _CASTS.get(name, '') for n, name in enumerate(_COLUMNS))} FROM unnest("
    + ", ".join(f"${n + 1}::{_TYPES.get(name, 'text')}[]" for n, name in enumerate(_COLUMNS))
    + f") AS given({', '.join(f'c{n}' for n in range(len(_COLUMNS)))}) ON CONFLICT (id) DO NOTHING"
)


class Outcome(Counter[str]):
    """How many of a batch were `recorded`, `duplicate`, or newly set aside as `unreadable`, `conflict`, `refused`."""


def write_batch(connection: Connection, rows: Sequence[Row], poison: Sequence[Poison], now: datetime) -> Outcome:
    """Record `rows` and quarantine `poison`; whatever was there already stays as it is.

    Rows go in by id, so that two recorders with the same events wait for each other instead of deadlocking.
    """
    rows = sorted(rows, key=lambda row: row.id)
    recorded = _insert(connection, rows, now) if rows else 0
    conflicts: list[Poison] = []
    if recorded < len(rows):
        repeated, conflicts = _known(connection, rows)
        _keep_duplicates(connection, repeated, now)
    outcome = Outcome(recorded=recorded, duplicate=len(rows) - recorded - len(conflicts))
    for each in (*poison, *conflicts):
        outcome[each.kind] += _quarantine(connection, each, now)
    return outcome


def write_each(connection: Connection, rows: Sequence[Row], poison: Sequence[Poison], now: datetime) -> Outcome:
    """Do the same row by row, for a batch with a value that the database refuses, such as NUL in PostgreSQL's text."""
    outcome = write_batch(connection, (), poison, now)
    for row in rows:
        try:
            with connection.begin_nested():
                outcome.update(write_batch(connection, [row], (), now))
        except DBAPIError as error:
            if not refuses_values(error):
                raise
            refused = poisoned(row, "refused", "the database refuses a value in it")
            outcome[refused.kind] += _quarantine(connection, refused, now)
    return outcome


def touch(connection: Connection) -> None:
    """Write something that changes nothing, to learn whether it can be written."""
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")


def _insert(connection: Connection, rows: Sequence[Row], now: datetime) -> int:
    if connection.dialect.name == "postgresql":
        *columns, _ = zip(*rows, strict=True)
        arrays = (*map(list, columns), [now] * len(rows))
        return connection.exec_driver_sql(_INSERT_POSTGRES, arrays).rowcount
    stamp = iso_utc(now)
    recorded = start = 0
    while start < len(rows):
        size = next(size for size in _INSERT_SQLITE if size <= len(rows) - start)
        part = rows[start : start + size]
        values = tuple(chain.from_iterable((row[0], iso_utc(row[1]), *row[2:13], stamp) for row in part))
        recorded += connection.exec_driver_sql(_INSERT_SQLITE[size], values).rowcount
        start += size
    return recorded


def _known(connection: Connection, rows: Sequence[Row]) -> tuple[list[Row], list[Poison]]:
    """Find which `rows` are held under another gateway or seq, and which contradict the row of their id."""
    table = PREDICCIONES.c
    held: dict[str, tuple[str, int, str]] = {}
    for start in range(0, len(rows), _LOOKED_UP):
        ids = [row.id for row in rows[start : start + _LOOKED_UP]]
        found = connection.execute(select(table.id, table.gateway_id, table.seq, table.hash).where(table.id.in_(ids)))
        held |= {event_id: (gateway_id, seq, digest) for event_id, gateway_id, seq, digest in found}
    repeated, conflicts = [], []
    for row in rows:
        gateway_id, seq, digest = held[row.id]
        if digest != row.hash:
            conflicts.append(poisoned(row, "conflict", "its id is recorded with another question or answer"))
        elif (gateway_id, seq) != (row.gateway_id, row.seq):
            repeated.append(row)
    return repeated, conflicts


def _keep_duplicates(connection: Connection, rows: Sequence[Row], now: datetime) -> None:
    if rows:
        values = [
            {"gateway_id": row.gateway_id, "seq": row.seq, "prediccion_id": row.id, "recibido": now} for row in rows
        ]
        connection.execute(_upsert(connection, DUPLICADOS).on_conflict_do_nothing(), values)


def _quarantine(connection: Connection, poison: Poison, now: datetime) -> int:
    statement = _upsert(connection, CUARENTENA).on_conflict_do_nothing(index_elements=["gateway_id", "seq"])
    values = {
        "recibido": now,
        "motivo": poison.reason,
        "gateway_id": poison.gateway_id,
        "seq": poison.seq,
        "cuerpo": poison.body,
        "prediccion_id": poison.event_id,
    }
    return connection.execute(statement, values).rowcount


def _upsert(connection: Connection, table: Table) -> PostgresInsert | SqliteInsert:
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
