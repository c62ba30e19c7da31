"""Replay of quarantined messages that were not believed, for instance after their gateway was enrolled."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
from sqlalchemy import Connection, Row, delete, select

from services.recorder.commands import say
from services.recorder.db.database import DATABASE_ERRORS, Database, reason
from services.recorder.db.rows import EventRow
from services.recorder.db.tables import CUARENTENA
from services.recorder.ingest.messages import EventMessage
from services.recorder.ingest.parsing import DeadLetter, order_feedback, read_row
from services.recorder.ingest.trust import GatewayTrust, TrustPolicy
from services.recorder.ingest.writes import BatchStats, write_each
from shared.contracts.event_batches import BatchError
from shared.contracts.transport import Delivery

IN_ORDER = (CUARENTENA.c.recibido, CUARENTENA.c.id)
"""The order in which rows of the quarantine were received."""


class RowChangedError(Exception):
    """Another command recorded or discarded a row of the quarantine meanwhile."""


async def messages_claiming(database: Database, gateway_id: str) -> list[int]:
    """Return the ids of the quarantined messages that claim to be of `gateway_id`, without discarded ones."""
    columns = CUARENTENA.c
    query = select(columns.id, columns.cabeceras).where(columns.cabeceras.is_not(None), columns.cuerpo != b"")
    async with database.readers.connect() as connection:
        rows = await connection.execute(query.order_by(*IN_ORDER))
        return [row.id for row in rows if orjson.loads(row.cabeceras).get("gateway-id") == gateway_id]


async def replay_message(database: Database, row: Row[Any], *, unproven: bool, ahead: timedelta) -> bool:
    """Record the events of a message and delete its row, in one transaction; or print why not.

    Its proof must hold now, unless `unproven`; the clock of its gateway may be `ahead`. Events that cannot be recorded
    become rows of the quarantine.

    Raises:
        RowChangedError: another command changed the row meanwhile.

    """
    try:
        message = EventMessage.restore(row.cabeceras, row.cuerpo)
        objection = None if unproven else await _objection(database, message)
        if objection is None:
            work = partial(_record, row=row, deliveries=message.deliveries, ahead=ahead)
            stats = await database.writer.transaction(work)
    except BatchError as error:
        objection = f"not a batch of events: {error}"
    except DATABASE_ERRORS as error:
        objection = f"the database does not take it: {reason(error)}"
    say(f"{row.id}: stays: {objection}" if objection else f"{row.id}: recorded: {_shown(stats)}")
    return objection is None


def lock_row(connection: Connection, row: Row[Any]) -> None:
    """Lock `row` of the quarantine until the end of the transaction.

    Raises:
        RowChangedError: another command recorded or discarded it after it was read.

    """
    present = select(CUARENTENA.c.motivo).where(CUARENTENA.c.id == row.id).with_for_update()
    if connection.execute(present).scalar_one_or_none() != row.motivo:
        raise RowChangedError


async def _objection(database: Database, message: EventMessage) -> str | None:
    """Return why the message is not believed now, or None."""
    trust = GatewayTrust(TrustPolicy(), database.writer)
    await trust.refresh(database.readers)
    return await trust.objection(message.claim, message.headers)


def _record(connection: Connection, row: Row[Any], deliveries: Sequence[Delivery], ahead: timedelta) -> BatchStats:
    lock_row(connection, row)
    now = datetime.now(UTC)
    rows: list[EventRow] = []
    dead_letters: list[DeadLetter] = []
    for place, delivery in enumerate(deliveries):
        event = read_row(delivery, now, ahead=ahead)
        if isinstance(event, DeadLetter):
            dead_letters.append(event)
            continue
        order_feedback(event, row.recibido, place)
        rows.append(event)
    stats = write_each(connection, rows, dead_letters, now)
    connection.execute(delete(CUARENTENA).where(CUARENTENA.c.id == row.id))
    return stats


def _shown(stats: BatchStats) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(stats.items()) if count) or "nothing new"
