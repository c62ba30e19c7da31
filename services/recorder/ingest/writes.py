"""Writes of one batch inside a transaction of the caller. The steps are the same on both databases."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import attrgetter, itemgetter

from sqlalchemy import Connection, Table, false, insert, select
from sqlalchemy.exc import SQLAlchemyError

from services.recorder.db.database import is_unusable, rejects_values
from services.recorder.db.inserts import insert_new
from services.recorder.db.rows import EventRow, FeedbackRow, PredictionRow, substitute
from services.recorder.db.tables import CUARENTENA, DUPLICADOS, OF_EVENTS, PREDICCIONES, RESULTADOS
from services.recorder.ingest.parsing import DeadLetter, dead_letter
from shared.contracts.event_batches import MOST_EVENTS

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
    quarantine(connection, rejected, now, stats)
    return stats


def write_each(
    connection: Connection, rows: Sequence[EventRow], dead_letters: Sequence[DeadLetter], now: datetime
) -> BatchStats:
    """Write row by row, for a batch that the database refuses; quarantine the rows that it refuses.

    Raises:
        Exception: the database refuses a row, and any other row as well.

    """
    stats = write_batch(connection, (), dead_letters, now)
    for row in rows:
        if (error := _write_one(connection, row, now, stats)) is None:
            continue
        if not rejects_values(error):
            # A deadlock or the like passes; and what refuses every row is not the fault of this one.
            if not _takes_another(connection, row, now):
                raise error
            if _write_one(connection, row, now, stats) is None:
                continue
        quarantine(connection, [dead_letter(row, "refused", "the database refuses a value in it")], now, stats)
    return stats


def _write_one(connection: Connection, row: EventRow, now: datetime, stats: BatchStats) -> Exception | None:
    """Write one row and count it in `stats`; return the error if the database refuses it.

    Raises:
        Exception: the database cannot be used.

    """
    try:
        with connection.begin_nested():
            written = write_batch(connection, [row], (), now)
    except Exception as error:  # whatever it is: of one row it must not keep all others from being recorded
        if is_unusable(error):
            raise
        return error
    stats.update(written)
    return None


def _takes_another(connection: Connection, row: EventRow, now: datetime) -> bool:
    """Return whether the database takes a harmless row of the same size in the place of `row`; it is not kept."""
    table, _ = _TABLES[type(row)]
    other = substitute(row, now)
    savepoint = connection.begin_nested()
    try:
        insert_new(connection, table, [attrgetter(*table.columns.keys())(other)])
    except SQLAlchemyError:
        return False
    finally:
        savepoint.rollback()
    return True


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


def quarantine(connection: Connection, letters: Sequence[DeadLetter], now: datetime, stats: BatchStats) -> None:
    """Quarantine `letters` and count the new ones in `stats`. Only the same bytes of a `seq` are no new row.

    Their times of reception keep their order, with a microsecond for each event, for a later replay.
    """
    for kind in sorted({letter.kind for letter in letters}):
        values = [
            (
                now + timedelta(microseconds=place * (1 if letter.headers is None else MOST_EVENTS)),
                letter.reason,
                letter.gateway_id,
                letter.seq,
                letter.body,
                letter.event_id,
                body_digest(letter.body),
                letter.headers,
            )
            for place, letter in enumerate(letters)
            if letter.kind == kind
        ]
        # Sorted, so that two recorders with the same letters do not deadlock.
        stats[kind] += insert_new(connection, CUARENTENA, sorted(values, key=itemgetter(2, 3, 6)))


def body_digest(body: bytes) -> str:
    """Return the SHA-256 of an event as it was received."""
    return hashlib.sha256(body).hexdigest()
