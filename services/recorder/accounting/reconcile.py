"""Reconciliation: for every gateway, each answer is recorded, quarantined, in the outbox or in transit."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Select, Table, and_, bindparam, distinct, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.recorder.accounting.outbox_reports import last_seq, settled
from services.recorder.db.tables import CUARENTENA, DUPLICADOS, GATEWAYS, PREDICCIONES, RESULTADOS
from shared.contracts.transport import OutboxState


@dataclass(frozen=True, slots=True)
class Account:
    """The account of one gateway: `answered` is the sum of the counts that follow; `last_report` is None without one.

    Feedback is counted with the predictions: a gateway numbers both together.
    """

    gateway_id: str
    answered: int
    recorded: int
    duplicates: int
    quarantined: int
    in_outbox: int
    in_transit: int
    missing: int
    last_report: datetime | None


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far a gateway is, apart from its rows; every `seq` below `settled` must be among them."""

    answered: int
    oldest_pending: int
    settled: int
    last_report: datetime | None


async def reconcile(
    readers: AsyncEngine, outboxes: Callable[[], Awaitable[Sequence[OutboxState]]], now: datetime
) -> list[Account]:
    """Return the account of each gateway, including those known only from the database.

    The outboxes of this process are read first: a row leaves such an outbox only after it is in the database, so every
    `seq` below `oldest_pending` must be in the database now. Other gateways report how far they are
    (`outbox_reports`). Those without a report are accounted for up to the highest `seq` in the database.
    """
    states = await outboxes()
    async with readers.connect() as connection:
        progress = {
            row.gateway_id: _Progress(row.respondidas, row.pendiente_desde, row.settled, row.visto)
            for row in await connection.execute(select(GATEWAYS, settled(now).label("settled")))
        }
        highest = await _highest(connection)
        for state in states:
            reported = progress.get(state.gateway_id)
            known = max(highest.get(state.gateway_id, 0), reported.answered if reported else 0)
            progress[state.gateway_id] = _progress_of_outbox(state, known, now)
        return [
            await _account(connection, gateway_id, progress.get(gateway_id), highest.get(gateway_id, 0))
            for gateway_id in sorted(progress.keys() | highest.keys())
        ]


def _progress_of_outbox(state: OutboxState, known: int, now: datetime) -> _Progress:
    """Return the progress of an outbox in this process; `known` is the last `seq` of its id that the database knows."""
    if state.replaced:  # nothing more can come, so every number that was ever used is settled
        answered = max(state.answered, known)
        return _Progress(answered, answered + 1, answered + 1, now)
    return _Progress(state.answered, state.oldest_pending, state.oldest_pending, now)


async def read_last_seq(readers: AsyncEngine, gateway_id: str) -> int:
    """Return the last `seq` of a gateway id in the database, or 0."""
    async with readers.connect() as connection:
        return await connection.run_sync(last_seq, gateway_id)


async def _highest(connection: AsyncConnection) -> dict[str, int]:
    highest: dict[str, int] = {}
    for table in (PREDICCIONES, RESULTADOS, DUPLICADOS, CUARENTENA):
        greatest = select(table.c.gateway_id, func.max(table.c.seq)).group_by(table.c.gateway_id)
        rows = await connection.execute(greatest.where(table.c.seq >= 1))  # below: a message that no gateway sent
        for gateway_id, seq in rows:
            highest[gateway_id] = max(seq, highest.get(gateway_id, 0))
    return highest


async def _account(connection: AsyncConnection, gateway_id: str, progress: _Progress | None, highest: int) -> Account:
    progress = progress or _Progress(highest, highest + 1, highest + 1, None)
    # Rows may have been recorded since its report.
    answered, left = max(progress.answered, highest), max(progress.oldest_pending - 1, highest)
    parameters = {"gateway": gateway_id, "settled": progress.settled}
    counts = [
        (await connection.execute(statement, parameters)).one()
        for statement in (
            _count(PREDICCIONES),
            _count(RESULTADOS, PREDICCIONES),
            _count(DUPLICADOS, PREDICCIONES, RESULTADOS),
            _count(CUARENTENA, PREDICCIONES, RESULTADOS, DUPLICADOS),
        )
    ]
    predictions, feedback, duplicates, quarantined = (row.total for row in counts)
    recorded = predictions + feedback
    missing = progress.settled - 1 - sum(row.below for row in counts)
    return Account(
        gateway_id,
        answered,
        recorded,
        duplicates,
        quarantined,
        in_outbox=answered - left,
        in_transit=left - recorded - duplicates - quarantined - missing,
        missing=missing,
        last_report=progress.last_report,
    )


def _count(table: Table, *others: Table) -> Select[int, int]:
    """Return a query for the number of a gateway's `seq` in `table` but not in `others`: all, and below `settled`."""
    not_in_others = [
        ~exists().where(and_(other.c.gateway_id == table.c.gateway_id, other.c.seq == table.c.seq)) for other in others
    ]
    count = func.count(distinct(table.c.seq))
    below = count.filter(table.c.seq < bindparam("settled", type_=BigInteger))
    return select(count.label("total"), below.label("below")).where(
        table.c.gateway_id == bindparam("gateway"), table.c.seq >= 1, *not_in_others
    )
