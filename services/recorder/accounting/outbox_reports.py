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
from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, exists, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from services.recorder.db.database import is_unusable
from services.recorder.db.tables import CUARENTENA, DUPLICADOS, GATEWAYS, PREDICCIONES, RESULTADOS
from shared.contracts.outbox_status import OutboxStatus

MOST_REPORTED = 1000
"""Gateways of which a report is stored. For one more, the oldest report of a gateway without rows is deleted."""
SETTLED_AFTER = timedelta(seconds=24)
"""Longer than the broker leaves messages with a recorder that hangs, shorter than the interval of reports."""
_OF_GATEWAYS = (PREDICCIONES, RESULTADOS, DUPLICADOS, CUARENTENA)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OutboxReport:
    """A gateway's report; `caught_up`: no event waited in the queue when it was read."""

    report: OutboxStatus
    caught_up: bool


def store_reports(connection: Connection, reports: Iterable[OutboxReport], now: datetime) -> None:
    """Store the newest report of each gateway; `reports` are in the order of the queue and were read `now`."""
    newest = {received.report.state.gateway_id: received for received in reports}
    if not newest:
        return
    stored = select(GATEWAYS.c.gateway_id, GATEWAYS.c.respondidas, GATEWAYS.c.visto).where(
        GATEWAYS.c.gateway_id.in_(newest)
    )
    known = {row.gateway_id: row for row in connection.execute(stored)}
    for received in newest.values():
        _warn_if_restored(received.report, known.get(received.report.state.gateway_id))
    room = _make_room(connection, len(newest.keys() - known.keys()))
    strangers = sorted(newest.keys() - known.keys())[room:]
    # Sorted, so that two recorders do not deadlock.
    rows = [_row(connection, newest[name], now) for name in sorted(newest.keys() - set(strangers))]
    merge_reports(rows, now, connection)


def _make_room(connection: Connection, new: int) -> int:
    """Return for how many of `new` gateways a report can be stored, after deleting some of gateways without rows."""
    if not new:
        return 0
    stored = connection.execute(select(func.count()).select_from(GATEWAYS)).scalar_one()
    if (excess := stored + new - MOST_REPORTED) <= 0:
        return new
    without_rows = [~exists().where(table.c.gateway_id == GATEWAYS.c.gateway_id) for table in _OF_GATEWAYS]
    oldest = select(GATEWAYS.c.gateway_id).where(*without_rows).order_by(GATEWAYS.c.visto).limit(excess)
    deleted = connection.execute(delete(GATEWAYS).where(GATEWAYS.c.gateway_id.in_(oldest.scalar_subquery()))).rowcount
    return max(0, new - (excess - deleted))


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


def _warn_if_restored(report: OutboxStatus, stored: Row[str, int, datetime] | None) -> None:
    """Log a gateway that uses numbers again: an older outbox that its gateway did not notice, as after a rollback.

    Or the report before was forged, and nothing is wrong with the gateway.
    """
    if (
        stored
        and not report.state.replaced
        and report.state.answered < stored.respondidas
        and report.time > stored.visto
    ):
        _log.warning(
            "gateway_counts_again",
            gateway_id=stored.gateway_id,
            answered=report.state.answered,
            answered_before=stored.respondidas,
            reason="its outbox is older than its last report: restore it as docs/operations/running.md describes",
        )


def last_seq(connection: Connection, gateway_id: str) -> int:
    """Return the last `seq` of a gateway id that was recorded, quarantined or reported, or 0."""
    queries = [
        select(func.max(column)).where(table.c.gateway_id == gateway_id)
        for table, column in (
            *((table, table.c.seq) for table in _OF_GATEWAYS),
            (GATEWAYS, GATEWAYS.c.respondidas),
        )
    ]
    return max(connection.execute(query).scalar() or 0 for query in queries)


def merge_reports(rows: Sequence[dict[str, Any]], now: datetime, connection: Connection) -> None:
    """Insert `rows`, or update existing ones. An older report changes nothing, but a later one may state less.

    It does if the one before was forged: then what that one settled counts no more.
    """
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
            "asentado": case(
                (current.asentado > new.pendiente_desde, 1),
                (settled_below > new.pendiente_desde, current.asentado),
                (new.asentado > settled_below, new.asentado),
                else_=settled_below,
            ),
        },
        where=or_(
            and_(new.respondidas >= current.respondidas, new.pendiente_desde >= current.pendiente_desde),
            new.visto > current.visto,
        ),
    )
    connection.execute(statement, rows)


def settled(now: datetime) -> ColumnElement[int]:
    """Return, as an expression, the `seq` below which every event must be recorded or quarantined by `now`."""
    row = GATEWAYS.c
    proven = and_(row.al_dia <= now - SETTLED_AFTER, row.pendiente_desde > row.asentado)
    return case((proven, row.pendiente_desde), else_=row.asentado)
