"""The account of every gateway: all it answered is recorded, set aside, or on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Select, and_, bindparam, distinct, exists, func, select

from services.recorder.accounting.outbox_reports import settled
from services.recorder.db.tables import CUARENTENA, DUPLICADOS, GATEWAYS, PREDICCIONES, RESULTADOS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from shared.contracts.transport import OutboxState


@dataclass(frozen=True, slots=True)
class Account:
    """One gateway: `answered` is the sum of all that follows up to `missing`; `seen`: when it last said so.

    Outcomes are counted with the predictions: a gateway numbers both together.
    """

    gateway_id: str
    answered: int
    recorded: int
    duplicates: int
    quarantined: int
    in_outbox: int
    on_the_way: int
    missing: int
    seen: datetime | None


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a gateway without its rows; every `seq` below `settled` must be among them."""

    answered: int
    oldest_pending: int
    settled: int
    seen: datetime | None


async def reconcile(
    readers: AsyncEngine, outboxes: Callable[[], Awaitable[Sequence[OutboxState]]], now: datetime
) -> list[Account]:
    """Draw up the account of each gateway, those known only from the database included.

    The outboxes of this process are read first: a row leaves such an outbox only after it is in the database, so
    whatever lies below `oldest_pending` then must be found in the database now. Gateways elsewhere have said how far
    they are (`outbox_reports`), and those that never did are measured up to the highest `seq` they are known by.
    """
    here = {
        state.gateway_id: _Known(state.answered, state.oldest_pending, state.oldest_pending, now)
        for state in await outboxes()
    }
    async with readers.connect() as connection:
        known = {
            row.gateway_id: _Known(row.respondidas, row.pendiente_desde, settled(row, now), row.visto)
            for row in await connection.execute(select(GATEWAYS))
        } | here
        highest = await _highest(connection)
        return [
            await _account(connection, gateway_id, known.get(gateway_id), highest.get(gateway_id, 0))
            for gateway_id in sorted(known.keys() | highest.keys())
        ]


async def _highest(connection: AsyncConnection) -> dict[str, int]:
    highest: dict[str, int] = {}
    for table in (PREDICCIONES, RESULTADOS, DUPLICADOS, CUARENTENA):
        greatest = select(table.c.gateway_id, func.max(table.c.seq)).group_by(table.c.gateway_id)
        found = await connection.execute(greatest.where(table.c.seq >= 1))  # below: a message that no gateway sent
        for gateway_id, seq in found:
            highest[gateway_id] = max(seq, highest.get(gateway_id, 0))
    return highest


async def _account(connection: AsyncConnection, gateway_id: str, known: _Known | None, highest: int) -> Account:
    known = known or _Known(highest, highest + 1, highest + 1, None)
    # Rows may have come in since it said how far it is.
    answered, left = max(known.answered, highest), max(known.oldest_pending - 1, highest)
    asked = {"gateway": gateway_id, "settled": known.settled}
    counted = [
        (await connection.execute(statement, asked)).one()
        for statement in (
            _count(PREDICCIONES),
            _count(RESULTADOS, PREDICCIONES),
            _count(DUPLICADOS, PREDICCIONES, RESULTADOS),
            _count(CUARENTENA, PREDICCIONES, RESULTADOS, DUPLICADOS),
        )
    ]
    predictions, outcomes, duplicates, quarantined = (row.found for row in counted)
    recorded = predictions + outcomes
    missing = known.settled - 1 - sum(row.found_below for row in counted)
    return Account(
        gateway_id,
        answered,
        recorded,
        duplicates,
        quarantined,
        in_outbox=answered - left,
        on_the_way=left - recorded - duplicates - quarantined - missing,
        missing=missing,
        seen=known.seen,
    )


def _count(table: Table, *others: Table) -> Select[int, int]:
    """Count the gateway's `seq` in `table`, in all and below `settled`. What `others` hold is left out: it counted."""
    elsewhere = [
        ~exists().where(and_(other.c.gateway_id == table.c.gateway_id, other.c.seq == table.c.seq)) for other in others
    ]
    found = func.count(distinct(table.c.seq))
    below = found.filter(table.c.seq < bindparam("settled", type_=BigInteger))
    return select(found.label("found"), below.label("found_below")).where(
        table.c.gateway_id == bindparam("gateway"), table.c.seq >= 1, *elsewhere
    )
