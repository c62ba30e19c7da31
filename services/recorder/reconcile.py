"""The account of every gateway: all it answered is recorded, set aside, or still in its outbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Select, and_, bindparam, distinct, exists, func, select

from services.recorder.schema import CUARENTENA, DUPLICADOS, PREDICCIONES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from shared.transport import OutboxState


@dataclass(frozen=True, slots=True)
class Account:
    """One gateway: `answered` = `recorded` + `duplicates` + `quarantined` + `in_outbox` + `missing`."""

    gateway_id: str
    answered: int
    recorded: int
    duplicates: int
    quarantined: int
    in_outbox: int
    missing: int


async def reconcile(readers: AsyncEngine, outboxes: Callable[[], Awaitable[Sequence[OutboxState]]]) -> list[Account]:
    """Draw up the account of each gateway, those known only from the database included.

    The outboxes are read first: a row leaves its outbox only after it is in the database, so whatever lies below
    `oldest_pending` then must be found in the database now. A gateway without an outbox here is measured up to the
    highest `seq` it is known by.
    """
    states = {state.gateway_id: state for state in await outboxes()}
    async with readers.connect() as connection:
        highest = await _highest(connection)
        return [
            await _account(
                connection,
                gateway_id,
                answered=states[gateway_id].answered if gateway_id in states else highest[gateway_id],
                pending=states[gateway_id].oldest_pending if gateway_id in states else highest[gateway_id] + 1,
            )
            for gateway_id in sorted(states.keys() | highest.keys())
        ]


async def _highest(connection: AsyncConnection) -> dict[str, int]:
    highest: dict[str, int] = {}
    for table in (PREDICCIONES, DUPLICADOS, CUARENTENA):
        greatest = select(table.c.gateway_id, func.max(table.c.seq)).group_by(table.c.gateway_id)
        found = await connection.execute(greatest.where(table.c.seq >= 1))  # below: a message that no gateway sent
        for gateway_id, seq in found:
            highest[gateway_id] = max(seq, highest.get(gateway_id, 0))
    return highest


async def _account(connection: AsyncConnection, gateway_id: str, *, answered: int, pending: int) -> Account:
    below = {"gateway": gateway_id, "pending": pending}
    recorded, duplicates, quarantined = [
        (await connection.execute(statement, below)).scalar_one()
        for statement in (
            _count(PREDICCIONES),
            _count(DUPLICADOS, PREDICCIONES),
            _count(CUARENTENA, PREDICCIONES, DUPLICADOS),
        )
    ]
    return Account(
        gateway_id,
        answered,
        recorded,
        duplicates,
        quarantined,
        in_outbox=answered - pending + 1,
        missing=pending - 1 - recorded - duplicates - quarantined,
    )


def _count(table: Table, *others: Table) -> Select[int]:
    """Count the gateway's `seq` below `pending` in `table`, leaving out what `others` hold: each counts once."""
    elsewhere = [
        ~exists().where(and_(other.c.gateway_id == table.c.gateway_id, other.c.seq == table.c.seq)) for other in others
    ]
    return select(func.count(distinct(table.c.seq))).where(
        table.c.gateway_id == bindparam("gateway"),
        table.c.seq >= 1,
        table.c.seq < bindparam("pending", type_=BigInteger),
        *elsewhere,
    )
