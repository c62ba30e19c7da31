"""What one batch does to the tables, inside the transaction it is given. The same steps on both databases."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from services.recorder.db.database import refuses_values
from services.recorder.db.tables import CUARENTENA, DUPLICADOS, PREDICCIONES, RESULTADOS
from services.recorder.db.types import iso_utc, unnested
from services.recorder.ingest.parsing import AnyRow, OutcomeRow, Poison, Row, poisoned

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Table
    from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
    from sqlalchemy.dialects.sqlite import Insert as SqliteInsert

_LOOKED_UP = 500
"""Ids per look-up, far below what either database takes."""


@dataclass(frozen=True, slots=True)
class _Recording:
    """Where rows of one kind go: their table, the statements that insert them, and what a new one counts as.

    Plain SQL for the one statement that runs for every event: binding through Core costs as much as inserting. Rows go
    in together, because each statement has to win the interpreter lock back; of a few sizes, because SQLite's driver
    keeps statements prepared by their text. PostgreSQL takes an array per column, whatever the size of the batch.
    """

    table: Table
    counted: str
    postgresql: str
    sqlite: dict[int, str]


def _recording(table: Table, counted: str) -> _Recording:
    columns = tuple(table.columns)
    into = f"INSERT INTO {table.name} ({', '.join(column.name for column in columns)})"
    places = f"({', '.join('?' * len(columns))})"
    end = "ON CONFLICT (id) DO NOTHING"
    sqlite_statements = {size: f"{into} VALUES {', '.join([places] * size)} {end}" for size in (256, 32, 4, 1)}
    return _Recording(table, counted, f"{into} {unnested(columns)} {end}", sqlite_statements)


_RECORDINGS: dict[type[AnyRow], _Recording] = {
    Row: _recording(PREDICCIONES, "recorded"),
    OutcomeRow: _recording(RESULTADOS, "outcomes"),
}


class Outcome(Counter[str]):
    """How many of a batch were `recorded` predictions, recorded `outcomes`, `duplicate`, or newly set aside.

    What was set aside is `unreadable`, a `conflict` or `refused`.
    """


def write_batch(connection: Connection, rows: Sequence[AnyRow], poison: Sequence[Poison], now: datetime) -> Outcome:
    """Record `rows` and quarantine `poison`; whatever was there already stays as it is.

    Rows go in by kind and id, so that two recorders with the same events wait for each other instead of deadlocking.
    """
    outcome, aside = Outcome(), list(poison)
    for kind, recording in _RECORDINGS.items():
        own = sorted((row for row in rows if type(row) is kind), key=lambda row: row.id)
        if not own:
            continue
        new = _insert(connection, recording, own, now)
        outcome[recording.counted] += new
        if new < len(own):
            repeated, conflicts = _known(connection, recording.table, own)
            _keep_duplicates(connection, repeated, now)
            outcome["duplicate"] += len(own) - new - len(conflicts)
            aside += conflicts
    for each in aside:
        outcome[each.kind] += _quarantine(connection, each, now)
    return outcome


def write_each(connection: Connection, rows: Sequence[AnyRow], poison: Sequence[Poison], now: datetime) -> Outcome:
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


def _insert(connection: Connection, recording: _Recording, rows: Sequence[AnyRow], now: datetime) -> int:
    """Insert what is new. A row is its table's columns but the last, `registrado`, and then the event."""
    if connection.dialect.name == "postgresql":
        *columns, _ = zip(*rows, strict=True)
        arrays = (*map(list, columns), [now] * len(rows))
        return connection.exec_driver_sql(recording.postgresql, arrays).rowcount
    stamp = iso_utc(now)
    recorded = start = 0
    while start < len(rows):
        size = next(size for size in recording.sqlite if size <= len(rows) - start)
        part = rows[start : start + size]
        values = tuple(chain.from_iterable((row[0], iso_utc(row[1]), *row[2:-1], stamp) for row in part))
        recorded += connection.exec_driver_sql(recording.sqlite[size], values).rowcount
        start += size
    return recorded


def _known(connection: Connection, table: Table, rows: Sequence[AnyRow]) -> tuple[list[AnyRow], list[Poison]]:
    """Find which `rows` are held under another gateway or seq, and which contradict the row of their id."""
    c = table.c
    held: dict[str, tuple[str, int, str]] = {}
    for start in range(0, len(rows), _LOOKED_UP):
        ids = [row.id for row in rows[start : start + _LOOKED_UP]]
        found = connection.execute(select(c.id, c.gateway_id, c.seq, c.hash).where(c.id.in_(ids)))
        held |= {event_id: (gateway_id, seq, digest) for event_id, gateway_id, seq, digest in found}
    repeated, conflicts = [], []
    for row in rows:
        gateway_id, seq, digest = held[row.id]
        if digest != row.hash:
            conflicts.append(poisoned(row, "conflict", "its id is recorded with another question or answer"))
        elif (gateway_id, seq) != (row.gateway_id, row.seq):
            repeated.append(row)
    return repeated, conflicts


def _keep_duplicates(connection: Connection, rows: Sequence[AnyRow], now: datetime) -> None:
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
