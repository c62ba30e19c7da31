"""What gateways say of their outboxes, kept so that an answer that never arrived is missed.

What left an outbox lies in the queue, or in the hands of a recorder, before it is a row. So a state alone proves
nothing missing. It does once it was read with no event waiting in the queue, and whatever a recorder held then is in,
or was given back and taken again: `SETTLED_AFTER` later. `asentado` is how far that holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, select
from sqlalchemy.dialects import postgresql, sqlite

from services.recorder.db.tables import GATEWAYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from shared.contracts.outbox_status import OutboxStatus

SETTLED_AFTER = timedelta(seconds=24)
"""Longer than the broker leaves messages with a recorder that hangs, shorter than from one state to the next."""


@dataclass(frozen=True, slots=True)
class OutboxReports:
    """A gateway's report, and whether no event waited in the queue when it was read."""

    report: OutboxStatus
    caught_up: bool


def keep_reports(connection: Connection, heard: Iterable[OutboxReports], now: datetime) -> None:
    """Keep the newest report of each gateway; `now` is when it was read."""
    newest: dict[str, OutboxReports] = {}
    for each in heard:  # in the order of the queue
        newest[each.report.state.gateway_id] = each
    adopt_reports(
        [
            {
                "gateway_id": gateway_id,
                "respondidas": each.report.state.answered,
                "pendiente_desde": each.report.state.oldest_pending,
                "visto": min(each.report.time, now),  # a clock that is ahead must not hide a silence
                "al_dia": now if each.caught_up else None,
                "asentado": 1,
            }
            for gateway_id, each in sorted(newest.items())  # in order, so that two recorders wait and do not deadlock
        ],
        now,
        connection,
    )


async def read_reports(reading: AsyncConnection) -> list[dict[str, Any]]:
    """Read all that is kept."""
    return [dict(row) for row in (await reading.execute(select(GATEWAYS))).mappings()]


def adopt_reports(rows: Sequence[dict[str, Any]], now: datetime, connection: Connection) -> None:
    """Insert `rows`, or bring those that are there forward to them. Counts only grow: an older one changes nothing."""
    if not rows:
        return
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(GATEWAYS)
    held, new = GATEWAYS.c, insert.excluded
    proven = case((held.al_dia <= now - SETTLED_AFTER, held.pendiente_desde), else_=held.asentado)
    statement = insert.on_conflict_do_update(
        index_elements=[held.gateway_id],
        set_={
            "respondidas": new.respondidas,
            "pendiente_desde": new.pendiente_desde,
            "visto": new.visto,
            "al_dia": new.al_dia,
            "asentado": case((new.asentado > proven, new.asentado), else_=proven),
        },
        where=and_(new.respondidas >= held.respondidas, new.pendiente_desde >= held.pendiente_desde),
    )
    connection.execute(statement, rows)


def settled(row: Any, now: datetime) -> int:  # noqa: ANN401 - a row of `gateways`
    """Say below which `seq` everything must be recorded or set aside by `now`."""
    proven = row.al_dia is not None and row.al_dia <= now - SETTLED_AFTER
    return int(max(row.asentado, row.pendiente_desde) if proven else row.asentado)
