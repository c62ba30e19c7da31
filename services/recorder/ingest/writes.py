"""Writes of one batch inside a transaction of the caller. The steps are the same on both databases."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter

from sqlalchemy import Connection, Table, false, insert, select
from sqlalchemy.exc import DBAPIError

from services.recorder.db.database import rejects_values
from services.recorder.db.inserts import insert_new
from services.recorder.db.rows import EventRow, FeedbackRow, PredictionRow
from services.recorder.db.tables import CUARENTENA, DUPLICADOS, OF_EVENTS, PREDICCIONES, RESULTADOS
from services.recorder.ingest.parsing import DeadLetter, dead_letter

_IDS_PER_QUERY = 500
"""Far below the limits of both databases."""


_TABLES: dict[type[EventRow], tuple[Table, str]] = {
    PredictionRow: (PREDICCIONES, "predictions"),
    FeedbackRow: (RESULTADOS, "feedback"),
}
"""The table of each kind of row, and the count of its new rows in `BatchStats`."""


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
    for kind, (table, counted) in _TABLES.items():
        of_kind = sorted((row for row in rows if type(row) is kind), key=lambda row: row.id)
        if not of_kind:
            continue
        new = insert_new(connection, table, list(map(attrgetter(*table.columns.keys()), of_kind)))
        stats[counted] += new
        if new < len(of_kind):
            repeated, conflicts = _repeated_and_conflicting(connection, table, of_kind)
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
    """Write without a change, to find out whether the database and each table of events can be written."""
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
    for table in OF_EVENTS:
        connection.execute(insert(table).from_select(table.columns.keys(), select(table).where(false())))


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
        insert_new(connection, DUPLICADOS, [(row.gateway_id, row.seq, row.id, now) for row in rows])


def _quarantine(connection: Connection, letter: DeadLetter, now: datetime) -> int:
    values = (now, letter.reason, letter.gateway_id, letter.seq, letter.body, letter.event_id)
    return insert_new(connection, CUARENTENA, [values])
