"""What is promised of gateways that report from elsewhere, written once and run on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from services.recorder.accounting.outbox_reports import (
    SETTLED_AFTER,
    OutboxReport,
    merge_reports,
    read_reports,
    store_reports,
)
from services.recorder.db.tables import PREDICCIONES
from shared.contracts.outbox_status import OutboxStatus
from shared.contracts.transport import OutboxState
from tests.support.recorder_suite import NOW, Recording, account, delivery

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

SETTLED = SETTLED_AFTER.total_seconds()


async def hear(  # noqa: PLR0913 - each is one fact of a report
    recorder: Recording,
    answered: int,
    oldest_pending: int,
    *,
    at: float = 0,
    gateway: str = "g1",
    caught_up: bool = True,
) -> None:
    """Keep a report that was made and read `at` seconds after NOW."""
    moment = NOW + timedelta(seconds=at)
    heard = OutboxReport(OutboxStatus(OutboxState(gateway, answered, oldest_pending), moment), caught_up)
    await recorder.database.writer.transaction(partial(_keep, heard, moment))


def _keep(heard: OutboxReport, now: datetime, connection: Connection) -> None:
    store_reports(connection, [heard], now)


async def delete_by_hand(recorder: Recording, seq: int) -> None:
    def delete(connection: Connection) -> None:
        connection.execute(PREDICCIONES.delete().where(PREDICCIONES.c.seq == seq))

    await recorder.database.writer.transaction(delete)


def seen(at: float) -> datetime:
    return NOW + timedelta(seconds=at)


async def test_what_left_the_outbox_and_never_arrived_is_missed_once_it_cannot_be_on_its_way(
    recorder: Recording,
) -> None:
    await recorder.store.record([delivery(seq) for seq in range(1, 6)])
    await hear(recorder, answered=9, oldest_pending=8)

    before, after = await recorder.account(later=SETTLED - 1), await recorder.account(later=SETTLED)

    assert before == {"g1": account("g1", 9, recorded=5, in_outbox=2, in_transit=2)}
    assert after == {"g1": account("g1", 9, recorded=5, in_outbox=2, missing=2)}


async def test_a_state_that_was_read_before_its_rows_misses_none(recorder: Recording) -> None:
    await hear(recorder, answered=500, oldest_pending=501, at=0)
    assert await recorder.account() == {"g1": account("g1", 500, in_transit=500)}

    await recorder.store.record([delivery(seq) for seq in range(1, 501)])

    for later in (1, SETTLED, 1000):
        assert await recorder.account(later=later) == {"g1": account("g1", 500, recorded=500)}


async def test_as_long_as_events_wait_in_the_queue_none_is_missed_however_long_that_takes(recorder: Recording) -> None:
    for at in range(0, 3600, 25):
        await hear(recorder, answered=100, oldest_pending=101, at=at, caught_up=False)

    assert (await recorder.account(later=3600))["g1"].missing == 0

    await hear(recorder, answered=100, oldest_pending=101, at=3600, caught_up=True)
    assert (await recorder.account(later=3600 + SETTLED - 1))["g1"].missing == 0
    assert (await recorder.account(later=3600 + SETTLED))["g1"].missing == 100


async def test_rows_that_came_in_after_the_state_count_and_holes_among_them_are_in_transit(recorder: Recording) -> None:
    await hear(recorder, answered=3, oldest_pending=2)
    await recorder.store.record([delivery(seq) for seq in (1, 2, 3, 5, 7)])

    assert await recorder.account() == {"g1": account("g1", 7, recorded=5, in_transit=2)}


async def test_under_load_the_account_is_settled_from_one_state_to_the_next(recorder: Recording) -> None:
    await recorder.store.record([delivery(seq) for seq in range(1, 301)])
    for minute in range(10):
        await hear(recorder, answered=25 * (minute + 1), oldest_pending=25 * minute + 1, at=25 * minute)

    await delete_by_hand(recorder, 150)

    assert (await recorder.account(later=225))["g1"].missing == 1


@pytest.mark.parametrize("seq", [1, 40, 99, 100])
async def test_a_row_deleted_by_hand_shows_within_a_minute(recorder: Recording, seq: int) -> None:
    """However fresh it is: the last one as well, and while no newer state comes."""
    await hear(recorder, answered=90, oldest_pending=91, at=0)
    await recorder.store.record([delivery(n) for n in range(1, 101)])
    await hear(recorder, answered=100, oldest_pending=101, at=25)

    await delete_by_hand(recorder, seq)

    assert (await recorder.account(later=25 + SETTLED))["g1"].missing == 1
    assert 25 + SETTLED < 60


async def test_an_older_state_that_comes_late_changes_nothing(recorder: Recording) -> None:
    await hear(recorder, answered=10, oldest_pending=11, at=0)
    await hear(recorder, answered=5, oldest_pending=3, at=1)

    assert await recorder.account() == {"g1": account("g1", 10, in_transit=10)}


async def test_a_gateway_whose_clock_is_ahead_is_not_seen_in_the_future(recorder: Recording) -> None:
    report = OutboxStatus(OutboxState("g1", 1, 2), seen(3600))
    await recorder.database.writer.transaction(partial(_keep, OutboxReport(report, caught_up=True), NOW))

    assert (await recorder.account())["g1"].last_report == NOW


async def test_reports_are_kept_in_the_transaction_of_what_came_with_them(recorder: Recording) -> None:
    reports = [OutboxReport(OutboxStatus(OutboxState(name, 2, 3), NOW), caught_up=False) for name in ("g2", "g1", "g2")]
    await recorder.store.record([delivery(1)], (), reports)

    assert await recorder.account() == {
        "g1": account("g1", 2, recorded=1, in_transit=1),
        "g2": account("g2", 2, in_transit=2),
    }


async def test_reports_taken_over_from_another_database_bring_forward_and_never_back(recorder: Recording) -> None:
    await hear(recorder, answered=10, oldest_pending=11, at=0, gateway="behind")
    await hear(recorder, answered=10, oldest_pending=11, at=0, gateway="ahead")
    async with recorder.database.readers.connect() as connection:
        rows = await read_reports(connection)
    theirs = [row | {"respondidas": 20 if row["gateway_id"] == "behind" else 5} for row in rows]

    await recorder.database.writer.transaction(partial(merge_reports, theirs, NOW))

    accounts = await recorder.account()
    assert (accounts["behind"].answered, accounts["ahead"].answered) == (20, 10)
