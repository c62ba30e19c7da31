"""Reports of gateways on their outboxes, stored in `gateways` to detect answers that never arrive.

An event that left an outbox is in the queue, or with a recorder, before it is a row. So a report alone proves no answer
missing. It does if no event waited in the queue when it was read, and `SETTLED_AFTER` has passed: by then the events
that a recorder had received are recorded, or redelivered and recorded. Every `seq` below `asentado` is settled thus.

A gateway whose outbox was restored from a backup numbers by another id, and reports the one before as replaced once it
has delivered what the backup held. Nothing of that id can come any more, so its whole account is settled thus.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Connection, and_, case, func, select
from sqlalchemy.dialects import postgresql, sqlite

from services.recorder.db.database import is_unusable
from services.recorder.db.tables import CUARENTENA, DUPLICADOS, GATEWAYS, PREDICCIONES, RESULTADOS
from shared.contracts.outbox_status import OutboxStatus

SETTLED_AFTER = timedelta(seconds=24)
"""Longer than the broker leaves messages with a recorder that hangs, shorter than the interval of reports."""
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OutboxReport:
    """A gateway's report; `caught_up`: no event waited in the queue when it was read."""

    report: OutboxStatus
    caught_up: bool


def store_reports(connection: Connection, reports: Iterable[OutboxReport], now: datetime) -> None:
    """Store the newest report of each gateway; `reports` are in the order of the queue and were read `now`."""
    newest = {received.report.state.gateway_id: received for received in reports}
    _warn_of_restored(connection, [received.report for received in newest.values()])
    # Sorted, so that two recorders do not deadlock.
    merge_reports([_row(connection, received, now) for _, received in sorted(newest.items())], now, connection)


def store_each_report(connection: Connection, reports: Iterable[OutboxReport], now: datetime) -> None:
    """Store `reports` one by one, and log those that the database refuses: the next one replaces it."""
    for received in reports:
        try:
            with connection.begin_nested():
                store_reports(connection, [received], now)
        except Exception as error:
            if is_unusable(error):
                raise
            gateway_id = received.report.state.gateway_id
            _log.warning("gateway_state_refused", gateway_id=gateway_id, error=type(error).__name__)


def _row(connection: Connection, received: OutboxReport, now: datetime) -> dict[str, Any]:
    report, state = received.report, received.report.state
    answered, pending = state.answered, state.oldest_pending
    if state.replaced:  # whatever it had used beyond the copy has left its outbox, or was lost with it
        answered = max(answered, last_seq(connection, state.gateway_id))
        pending = answered + 1
    return {
        "gateway_id": state.gateway_id,
        "respondidas": answered,
        "pendiente_desde": pending,
        "visto": min(report.time, now),  # a gateway whose clock is ahead must not hide its silence
        "al_dia": now if received.caught_up else None,
        "asentado": 1,
    }


def _warn_of_restored(connection: Connection, reports: Sequence[OutboxStatus]) -> None:
    """Log gateways that use numbers again: an older outbox that its gateway did not notice, as after a rollback."""
    stored = select(GATEWAYS.c.gateway_id, GATEWAYS.c.respondidas, GATEWAYS.c.visto).where(
        GATEWAYS.c.gateway_id.in_([report.state.gateway_id for report in reports])
    )
    known = {row.gateway_id: row for row in connection.execute(stored)} if reports else {}
    for report in reports:
        row = known.get(report.state.gateway_id)
        if row and not report.state.replaced and report.state.answered < row.respondidas and report.time > row.visto:
            _log.warning(
                "gateway_counts_again",
                gateway_id=row.gateway_id,
                answered=report.state.answered,
                answered_before=row.respondidas,
                reason="its outbox is older than its last report: restore it as docs/operations/running.md describes",
            )


def last_seq(connection: Connection, gateway_id: str) -> int:
    """Return the last `seq` of a gateway id that was recorded, quarantined or reported, or 0."""
    queries = [
        select(func.max(column)).where(table.c.gateway_id == gateway_id)
        for table, column in (
            *((table, table.c.seq) for table in (PREDICCIONES, RESULTADOS, DUPLICADOS, CUARENTENA)),
            (GATEWAYS, GATEWAYS.c.respondidas),
        )
    ]
    return max(connection.execute(query).scalar() or 0 for query in queries)


def merge_reports(rows: Sequence[dict[str, Any]], now: datetime, connection: Connection) -> None:
    """Insert `rows`, or update existing ones. Counts only grow: an older report changes nothing."""
    if not rows:
        return
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(GATEWAYS)
    current, new = GATEWAYS.c, insert.excluded
    settled_below = settled(now)
    statement = insert.on_conflict_do_update(
        index_elements=[current.gateway_id],
        set_={
            "respondidas": new.respondidas,
            "pendiente_desde": new.pendiente_desde,
            "visto": new.visto,
            "al_dia": new.al_dia,
            "asentado": case((new.asentado > settled_below, new.asentado), else_=settled_below),
        },
        where=and_(new.respondidas >= current.respondidas, new.pendiente_desde >= current.pendiente_desde),
    )
    connection.execute(statement, rows)


def settled(now: datetime) -> ColumnElement[int]:
    """Return, as an expression, the `seq` below which every event must be recorded or quarantined by `now`."""
    row = GATEWAYS.c
    proven = and_(row.al_dia <= now - SETTLED_AFTER, row.pendiente_desde > row.asentado)
    return case((proven, row.pendiente_desde), else_=row.asentado)
