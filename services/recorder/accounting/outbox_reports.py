"""Reports of gateways on their outboxes, stored in `gateways` to detect answers that never arrive.

An event that left an outbox is in the queue, or with a recorder, before it is a row. So a report alone proves no answer
missing. It does if no event waited in the queue when it was read, and `SETTLED_AFTER` has passed: by then the events
that a recorder had received are recorded, or redelivered and recorded. Every `seq` below `asentado` is settled thus.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case
from sqlalchemy.dialects import postgresql, sqlite

from services.recorder.db.tables import GATEWAYS
from shared.contracts.outbox_status import OutboxStatus

SETTLED_AFTER = timedelta(seconds=24)
"""Longer than the broker leaves messages with a recorder that hangs, shorter than the interval of reports."""


@dataclass(frozen=True, slots=True)
class OutboxReport:
    """A gateway's report; `caught_up`: no event waited in the queue when it was read."""

    report: OutboxStatus
    caught_up: bool


def store_reports(connection: Connection, reports: Iterable[OutboxReport], now: datetime) -> None:
    """Store the newest report of each gateway; `reports` are in the order of the queue and were read `now`."""
    newest = {received.report.state.gateway_id: received for received in reports}
    merge_reports(
        [
            {
                "gateway_id": gateway_id,
                "respondidas": received.report.state.answered,
                "pendiente_desde": received.report.state.oldest_pending,
                "visto": min(received.report.time, now),  # a gateway whose clock is ahead must not hide its silence
                "al_dia": now if received.caught_up else None,
                "asentado": 1,
            }
            for gateway_id, received in sorted(newest.items())  # sorted, so that two recorders do not deadlock
        ],
        now,
        connection,
    )


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
