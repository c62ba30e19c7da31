"""What one batch does to the tables, inside the transaction it is given. The same steps on both databases."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from services.recorder.db.database import refuses_values
from services.recorder.db.inserts import bulk_insert
from services.recorder.db.rows import EventRow, FeedbackRow, PredictionRow
from services.recorder.db.tables import CUARENTENA, DUPLICADOS, PREDICCIONES, RESULTADOS
from services.recorder.ingest.parsing import Poison, poisoned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Table
    from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
    from sqlalchemy.dialects.sqlite import Insert as SqliteInsert

    from services.recorder.db.inserts import BulkInsert

_LOOKED_UP = 500
"""Ids per look-up, far below what either database takes."""


@dataclass(frozen=True, slots=True)
class _Recording:
    """How rows of one kind are recorded: their table, their values, their insert, and the count of new ones."""

    table: Table
    counted: str
    values: Callable[[Any], tuple[Any, ...]]
    insert: BulkInsert


def _recording(table: Table, counted: str) -> _Recording:
    columns = tuple(table.columns)
    values = attrgetter(*(column.name for column in columns))
    return _Recording(table, counted, values, bulk_insert(table, columns))


_RECORDINGS: dict[type[EventRow], _Recording] = {
    PredictionRow: _recording(PREDICCIONES, "recorded"),
    FeedbackRow: _recording(RESULTADOS, "outcomes"),
}


class Outcome(Counter[str]):
    """How many of a batch were `recorded` predictions, recorded `outcomes`, `duplicate`, or newly set aside.

    What was set aside is `unreadable`, a `conflict` or `refused`.
    """


def write_batch(connection: Connection, rows: Sequence[EventRow], poison: Sequence[Poison], now: datetime) -> Outcome:
    """Record `rows` and quarantine `poison`; whatever was there already stays as it is.

    Rows go in by kind and id, so that two recorders with the same events wait for each other instead of deadlocking.
    """
    outcome, aside = Outcome(), list(poison)
    for kind, recording in _RECORDINGS.items():
        own = sorted((row for row in rows if type(row) is kind), key=lambda row: row.id)
        if not own:
            continue
        new = recording.insert.run(connection, list(map(recording.values, own)))
        outcome[recording.counted] += new
        if new < len(own):
            repeated, conflicts = _known(connection, recording.table, own)
            _keep_duplicates(connection, repeated, now)
            outcome["duplicate"] += len(own) - new - len(conflicts)
            aside += conflicts
    for each in aside:
        outcome[each.kind] += _quarantine(connection, each, now)
    return outcome


def write_each(connection: Connection, rows: Sequence[EventRow], poison: Sequence[Poison], now: datetime) -> Outcome:
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


def _known(connection: Connection, table: Table, rows: Sequence[EventRow]) -> tuple[list[EventRow], list[Poison]]:
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


def _keep_duplicates(connection: Connection, rows: Sequence[EventRow], now: datetime) -> None:
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
