"""Writes of one batch inside a transaction of the caller. The steps are the same on both databases."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.exc import DBAPIError

from services.recorder.db.database import rejects_values
from services.recorder.db.inserts import BulkInsert, bulk_insert
from services.recorder.db.rows import EventRow, FeedbackRow, PredictionRow
from services.recorder.db.tables import CUARENTENA, DUPLICADOS, PREDICCIONES, RESULTADOS
from services.recorder.ingest.parsing import DeadLetter, dead_letter

_IDS_PER_QUERY = 500
"""Far below the limits of both databases."""


@dataclass(frozen=True, slots=True)
class _Recording:
    """How rows of one kind are recorded: table, values of a row, insert statement; new ones are `counted` as this."""

    table: Table
    counted: str
    values: Callable[[Any], tuple[Any, ...]]
    insert: BulkInsert


def _recording(table: Table, counted: str) -> _Recording:
    columns = tuple(table.columns)
    values = attrgetter(*(column.name for column in columns))
    return _Recording(table, counted, values, bulk_insert(table, columns))


_RECORDINGS: dict[type[EventRow], _Recording] = {
    PredictionRow: _recording(PREDICCIONES, "predictions"),
    FeedbackRow: _recording(RESULTADOS, "feedback"),
}


class BatchStats(Counter[str]):
    """Counts of one batch: new `predictions`, new `feedback`, `duplicates`, and new dead letters by their kind."""


def write_batch(
    connection: Connection, rows: Sequence[EventRow], dead_letters: Sequence[DeadLetter], now: datetime
) -> BatchStats:
    """Record `rows` and quarantine `dead_letters`; existing rows stay as they are.

    Rows are inserted by kind and id, so that two recorders with the same events wait for each other and do not
    deadlock.
    """
    stats, rejected = BatchStats(), list(dead_letters)
    for kind, recording in _RECORDINGS.items():
        of_kind = sorted((row for row in rows if type(row) is kind), key=lambda row: row.id)
        if not of_kind:
            continue
        new = recording.insert.run(connection, list(map(recording.values, of_kind)))
        stats[recording.counted] += new
        if new < len(of_kind):
            repeated, conflicts = _repeated_and_conflicting(connection, recording.table, of_kind)
            _insert_duplicates(connection, repeated, now)
            stats["duplicates"] += len(of_kind) - new - len(conflicts)
            rejected += conflicts
    for letter in rejected:
        stats[letter.kind] += _quarantine(connection, letter, now)
    return stats


def write_each(
    connection: Connection, rows: Sequence[EventRow], dead_letters: Sequence[DeadLetter], now: datetime
) -> BatchStats:
    """Write row by row, for a batch with a value that the database rejects, such as NUL in PostgreSQL's text."""
    stats = write_batch(connection, (), dead_letters, now)
    for row in rows:
        try:
            with connection.begin_nested():
                stats.update(write_batch(connection, [row], (), now))
        except DBAPIError as error:
            if not rejects_values(error):
                raise
            rejected = dead_letter(row, "refused", "the database refuses a value in it")
            stats[rejected.kind] += _quarantine(connection, rejected, now)
    return stats


def touch(connection: Connection) -> None:
    """Write without a change, to find out whether the database can be written."""
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")


def _repeated_and_conflicting(
    connection: Connection, table: Table, rows: Sequence[EventRow]
) -> tuple[list[EventRow], list[DeadLetter]]:
    """Return the `rows` recorded under another gateway or seq, and those that contradict the row of their id."""
    c = table.c
    recorded: dict[str, tuple[str, int, str]] = {}
    for start in range(0, len(rows), _IDS_PER_QUERY):
        ids = [row.id for row in rows[start : start + _IDS_PER_QUERY]]
        existing = connection.execute(select(c.id, c.gateway_id, c.seq, c.hash).where(c.id.in_(ids)))
        recorded |= {event_id: (gateway_id, seq, digest) for event_id, gateway_id, seq, digest in existing}
    repeated, conflicts = [], []
    for row in rows:
        gateway_id, seq, digest = recorded[row.id]
        if digest != row.hash:
            conflicts.append(dead_letter(row, "conflict", "its id is recorded with another question or answer"))
        elif (gateway_id, seq) != (row.gateway_id, row.seq):
            repeated.append(row)
    return repeated, conflicts


def _insert_duplicates(connection: Connection, rows: Sequence[EventRow], now: datetime) -> None:
    if rows:
        values = [
            {"gateway_id": row.gateway_id, "seq": row.seq, "prediccion_id": row.id, "recibido": now} for row in rows
        ]
        connection.execute(_upsert(connection, DUPLICADOS).on_conflict_do_nothing(), values)


def _quarantine(connection: Connection, letter: DeadLetter, now: datetime) -> int:
    statement = _upsert(connection, CUARENTENA).on_conflict_do_nothing(index_elements=["gateway_id", "seq"])
    values = {
        "recibido": now,
        "motivo": letter.reason,
        "gateway_id": letter.gateway_id,
        "seq": letter.seq,
        "cuerpo": letter.body,
        "prediccion_id": letter.event_id,
    }
    return connection.execute(statement, values).rowcount


def _upsert(connection: Connection, table: Table) -> PostgresInsert | SqliteInsert:
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
