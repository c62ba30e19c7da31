"""Reconciliation: for every gateway, each answer is recorded, quarantined, in the outbox or in transit.

A number that a report or a row states counts only as far as rows support it (`SUPPORTED_BEYOND`); beyond that it is
named and enters no sum, because one forged message may state any number.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Select,
    Table,
    and_,
    bindparam,
    distinct,
    exists,
    func,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.recorder.accounting.outbox_reports import last_seq, settled
from services.recorder.db.tables import CUARENTENA, DUPLICADOS, GATEWAYS, OLVIDADAS, PREDICCIONES, RESULTADOS
from shared.contracts.transport import OutboxState

SUPPORTED_BEYOND = 1_000_000
"""A gateway's number counts up to twice its rows and this: as many as an outbox holds by default."""
MOST_LISTED = 200
"""Gateways with an account of their own; those of this process, and those with the most rows. Others are summed up."""
_TABLES = (PREDICCIONES, RESULTADOS, DUPLICADOS, CUARENTENA)


@dataclass(frozen=True, slots=True)
class Account:
    """The account of one gateway: `answered` is the sum of the counts that follow; `last_report` is None without one.

    Feedback is counted with the predictions: a gateway numbers both together. `unsupported` is the greatest number that
    a report or a row states beyond what rows support; it is in no count.
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
    unsupported: int | None = None


@dataclass(frozen=True, slots=True)
class Others:
    """The gateways without an account of their own: how many they are, and how many rows they have together."""

    gateways: int
    rows: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The accounts of at most `MOST_LISTED` gateways by their ids, and the sum of the others."""

    accounts: list[Account]
    others: Others


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far a gateway is, apart from its rows; every `seq` below `settled` must be among them.

    `settled_before` is what the reports before the last one settled.
    """

    answered: int
    oldest_pending: int
    settled: int
    last_report: datetime | None
    settled_before: int = 1


@dataclass(frozen=True, slots=True)
class _Rows:
    """How many rows a gateway has in all tables, and the highest `seq` in them."""

    number: int = 0
    highest: int = 0


async def reconcile(
    readers: AsyncEngine, outboxes: Callable[[], Awaitable[Sequence[OutboxState]]], now: datetime
) -> Reconciliation:
    """Return the account of each gateway, including those known only from the database.

    The outboxes of this process are read first: a row leaves such an outbox only after it is in the database, so every
    `seq` below `oldest_pending` must be in the database now. Other gateways report how far they are
    (`outbox_reports`). Those without a report are accounted for up to the highest `seq` in the database.
    """
    states = {state.gateway_id: state for state in await outboxes()}
    async with readers.connect() as connection:
        reported = {
            row.gateway_id: _Progress(row.respondidas, row.pendiente_desde, row.settled, row.visto, row.asentado)
            for row in await connection.execute(
                select(GATEWAYS, settled(now).label("settled")).order_by(GATEWAYS.c.visto.desc())
            )
        }
        rows = await _known_rows(connection, states)
        forgotten = set((await connection.execute(select(OLVIDADAS.c.gateway_id))).scalars())
        for gateway_id in forgotten & rows.keys():
            rows[gateway_id] = await _remaining_rows(connection, gateway_id)
        listed = _listed(states, reported, rows, forgotten)
        accounts = []
        for gateway_id in sorted(listed):
            own = rows.get(gateway_id, _Rows())
            progress = reported.get(gateway_id)
            if (state := states.get(gateway_id)) is not None:
                progress = _progress_of_outbox(state, max(own.highest, progress.answered if progress else 0), now)
            accounts.append(
                await _Counting(connection, gateway_id, own, partly=gateway_id in forgotten).account(
                    progress, trusted=gateway_id in states
                )
            )
        return Reconciliation(accounts, await _others(connection, reported, rows, listed))


async def read_last_seq(readers: AsyncEngine, gateway_id: str) -> int:
    """Return the last `seq` of a gateway id in the database, or 0."""
    async with readers.connect() as connection:
        return await connection.run_sync(last_seq, gateway_id)


def _progress_of_outbox(state: OutboxState, known: int, now: datetime) -> _Progress:
    """Return the progress of an outbox in this process; `known` is the last `seq` of its id that the database knows."""
    if state.replaced:  # nothing more can come, so every number that was ever used is settled
        answered = max(state.answered, known)
        return _Progress(answered, answered + 1, answered + 1, now)
    return _Progress(state.answered, state.oldest_pending, state.oldest_pending, now)


def _listed(
    states: Collection[str], reported: Mapping[str, _Progress], rows: Mapping[str, _Rows], forgotten: Collection[str]
) -> set[str]:
    """Return the gateways with an account of their own; `reported` begins with the latest report, `rows` with most."""
    without = [name for name in reported if name not in rows]
    with_rows = [name for name, own in rows.items() if own.number or name in reported or name not in forgotten]
    return set(list(dict.fromkeys([*states, *with_rows, *without]))[:MOST_LISTED])


def _per_gateway() -> CompoundSelect[Any]:
    return union_all(
        *(
            select(table.c.gateway_id, func.count().label("number"), func.max(table.c.seq).label("highest"))
            .where(table.c.seq >= 1)  # below: a message that no gateway sent
            .group_by(table.c.gateway_id)
            for table in _TABLES
        )
    )


async def _known_rows(connection: AsyncConnection, states: Iterable[str]) -> dict[str, _Rows]:
    """Return the rows of the gateways of this process, and of those with the most rows, most first."""
    tables = _per_gateway().subquery()
    gateway, number = tables.c.gateway_id, func.sum(tables.c.number)
    query = select(gateway, number, func.max(tables.c.highest)).group_by(gateway)
    most = query.order_by(number.desc(), gateway).limit(MOST_LISTED)
    rows = [*await connection.execute(query.where(gateway.in_(states))), *await connection.execute(most)]
    return {gateway_id: _Rows(int(number), highest) for gateway_id, number, highest in rows}


async def _others(
    connection: AsyncConnection, reported: Collection[str], rows: Mapping[str, _Rows], listed: Collection[str]
) -> Others:
    if len(rows) < MOST_LISTED:  # all that have rows are known
        missing = (set(reported) | rows.keys()) - set(listed)
        return Others(len(missing), sum(rows[name].number for name in missing & rows.keys()))
    tables = _per_gateway().subquery()
    totals = select(func.count(distinct(tables.c.gateway_id)), func.sum(tables.c.number))
    gateways, number = (await connection.execute(totals)).one()
    return Others(
        gateways - len(rows.keys() & set(listed)) + len(set(reported) - rows.keys() - set(listed)),
        int(number) - sum(own.number for name, own in rows.items() if name in listed),
    )


async def _remaining_rows(connection: AsyncConnection, gateway_id: str) -> _Rows:
    """Return the rows of a gateway without those that an operator took out of its account."""
    number = highest = 0
    for table in _TABLES:
        found = select(func.count(), func.max(table.c.seq)).where(
            table.c.gateway_id == gateway_id, table.c.seq >= 1, _not_forgotten(table)
        )
        count, greatest = (await connection.execute(found)).one()
        number, highest = number + count, max(highest, greatest or 0)
    return _Rows(number, highest)


@dataclass(frozen=True, slots=True)
class _Counting:
    """The rows of one gateway; some of them count no more if it is `partly` forgotten."""

    connection: AsyncConnection
    gateway_id: str
    rows: _Rows
    partly: bool

    async def account(self, reported: _Progress | None, *, trusted: bool) -> Account:
        """Return the account; `trusted`: what is reported comes from this process."""
        supported = 2 * self.rows.number + SUPPORTED_BEYOND
        if trusted and reported is not None:
            supported = max(supported, reported.answered)
        claims = (self.rows.highest, reported.answered if reported else 0)
        highest = self.rows.highest if self.rows.highest <= supported else await self._highest(supported)
        progress = reported or _Progress(highest, highest + 1, highest + 1, None)
        if progress.answered > supported:  # so only what was settled before it counts
            proven = progress.settled_before if progress.settled_before <= supported + 1 else 1
            progress = _Progress(highest, highest + 1, proven, progress.last_report)
        unsupported = max(claims) if max(claims) > supported else None
        return await self._account(progress, highest, supported, unsupported)

    async def _account(self, progress: _Progress, highest: int, supported: int, unsupported: int | None) -> Account:
        # Rows may have been recorded since its report.
        answered, left = max(progress.answered, highest), max(progress.oldest_pending - 1, highest)
        parameters = {"gateway": self.gateway_id, "settled": progress.settled, "supported": supported}
        counts = [
            (await self.connection.execute(_count(*tables, partly=self.partly), parameters)).one()
            for tables in (
                (PREDICCIONES,),
                (RESULTADOS, PREDICCIONES),
                (DUPLICADOS, PREDICCIONES, RESULTADOS),
                (CUARENTENA, PREDICCIONES, RESULTADOS, DUPLICADOS),
            )
        ]
        predictions, feedback, duplicates, quarantined = (row.total for row in counts)
        recorded = predictions + feedback
        missing = progress.settled - 1 - sum(row.below for row in counts)
        return Account(
            self.gateway_id,
            answered,
            recorded,
            duplicates,
            quarantined,
            in_outbox=answered - left,
            in_transit=left - recorded - duplicates - quarantined - missing,
            missing=missing,
            last_report=progress.last_report,
            unsupported=unsupported,
        )

    async def _highest(self, supported: int) -> int:
        """Return the highest supported `seq` of its rows, or 0."""
        highest = 0
        for table in _TABLES:
            conditions = [table.c.gateway_id == self.gateway_id, table.c.seq >= 1, table.c.seq <= supported]
            if self.partly:
                conditions.append(_not_forgotten(table))
            query = select(func.max(table.c.seq)).where(*conditions)
            highest = max(highest, (await self.connection.execute(query)).scalar() or 0)
        return highest


def _count(table: Table, *others: Table, partly: bool) -> Select[int, int]:
    """Return a query for the number of a gateway's `seq` in `table` but not in `others`: all, and below `settled`."""
    not_in_others = [
        ~exists().where(and_(other.c.gateway_id == table.c.gateway_id, other.c.seq == table.c.seq)) for other in others
    ]
    count = func.count(distinct(table.c.seq))
    below = count.filter(table.c.seq < bindparam("settled", type_=BigInteger))
    conditions = [*not_in_others, _not_forgotten(table)] if partly else not_in_others
    return select(count.label("total"), below.label("below")).where(
        table.c.gateway_id == bindparam("gateway"),
        table.c.seq.between(1, bindparam("supported", type_=BigInteger)),
        *conditions,
    )


def _not_forgotten(table: Table) -> ColumnElement[bool]:
    """Return the condition that no operator took a row of `table` out of the account."""
    recorded = table.c.registrado if "registrado" in table.c else table.c.recibido
    forgotten = OLVIDADAS.c
    return ~exists().where(
        forgotten.gateway_id == table.c.gateway_id, forgotten.despues_de < table.c.seq, recorded <= forgotten.hasta
    )
