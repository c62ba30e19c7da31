"""Contract of the reports of gateways in other processes, run on SQLite and on PostgreSQL."""

from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from services.recorder.accounting.outbox_reports import (
    MOST_REPORTED,
    SETTLED_AFTER,
    OutboxReport,
    merge_reports,
    store_reports,
)
from services.recorder.accounting.reconcile import MOST_LISTED, Others, reconcile
from services.recorder.app import no_outboxes
from services.recorder.db.tables import GATEWAYS, PREDICCIONES
from services.recorder.transfer.copy import read_all
from shared.contracts.event_batches import LARGEST_SEQ
from shared.contracts.outbox_status import OutboxStatus
from shared.contracts.transport import OutboxState
from tests.support.recorder_suite import NOW, Recording, account, delivery

SETTLED = SETTLED_AFTER.total_seconds()


async def report(  # noqa: PLR0913 - each is one fact of a report
    recorder: Recording,
    answered: int,
    oldest_pending: int,
    *,
    at: float = 0,
    gateway: str = "g1",
    caught_up: bool = True,
    replaced: bool = False,
) -> None:
    """Store a report that was written and read `at` seconds after NOW."""
    moment = NOW + timedelta(seconds=at)
    state = OutboxState(gateway, answered, oldest_pending, replaced=replaced)
    received = OutboxReport(OutboxStatus(state, moment), caught_up)
    await recorder.database.writer.transaction(partial(_store, received, moment))


def _store(received: OutboxReport, now: datetime, connection: Connection) -> None:
    store_reports(connection, [received], now)


async def delete_by_hand(recorder: Recording, seq: int) -> None:
    def delete(connection: Connection) -> None:
        connection.execute(PREDICCIONES.delete().where(PREDICCIONES.c.seq == seq))

    await recorder.database.writer.transaction(delete)


def after(at: float) -> datetime:
    return NOW + timedelta(seconds=at)


async def test_an_answer_that_never_arrives_is_missing_once_it_is_settled(
    recorder: Recording,
) -> None:
    await recorder.store.record([delivery(seq) for seq in range(1, 6)])
    await report(recorder, answered=9, oldest_pending=8)

    before, after = await recorder.account(later=SETTLED - 1), await recorder.account(later=SETTLED)

    assert before == {"g1": account("g1", 9, recorded=5, in_outbox=2, in_transit=2)}
    assert after == {"g1": account("g1", 9, recorded=5, in_outbox=2, missing=2)}


async def test_a_report_read_before_its_rows_reports_none_missing(recorder: Recording) -> None:
    await report(recorder, answered=500, oldest_pending=501, at=0)
    assert await recorder.account() == {"g1": account("g1", 500, in_transit=500)}

    await recorder.store.record([delivery(seq) for seq in range(1, 501)])

    for later in (1, SETTLED, 1000):
        assert await recorder.account(later=later) == {"g1": account("g1", 500, recorded=500)}


async def test_no_answer_is_missing_while_events_wait_in_the_queue(recorder: Recording) -> None:
    for at in range(0, 3600, 25):
        await report(recorder, answered=100, oldest_pending=101, at=at, caught_up=False)

    assert (await recorder.account(later=3600))["g1"].missing == 0

    await report(recorder, answered=100, oldest_pending=101, at=3600, caught_up=True)
    assert (await recorder.account(later=3600 + SETTLED - 1))["g1"].missing == 0
    assert (await recorder.account(later=3600 + SETTLED))["g1"].missing == 100


async def test_gaps_above_the_reported_seq_are_in_transit(recorder: Recording) -> None:
    await report(recorder, answered=3, oldest_pending=2)
    await recorder.store.record([delivery(seq) for seq in (1, 2, 3, 5, 7)])

    assert await recorder.account() == {"g1": account("g1", 7, recorded=5, in_transit=2)}


async def test_under_load_each_report_settles_the_one_before(recorder: Recording) -> None:
    await recorder.store.record([delivery(seq) for seq in range(1, 301)])
    for minute in range(10):
        await report(recorder, answered=25 * (minute + 1), oldest_pending=25 * minute + 1, at=25 * minute)

    await delete_by_hand(recorder, 150)

    assert (await recorder.account(later=225))["g1"].missing == 1


@pytest.mark.parametrize("seq", [1, 40, 99, 100])
async def test_a_row_deleted_by_hand_shows_within_a_minute(recorder: Recording, seq: int) -> None:
    """However new it is: also the last one, and while no newer report arrives."""
    await report(recorder, answered=90, oldest_pending=91, at=0)
    await recorder.store.record([delivery(n) for n in range(1, 101)])
    await report(recorder, answered=100, oldest_pending=101, at=25)

    await delete_by_hand(recorder, seq)

    assert (await recorder.account(later=25 + SETTLED))["g1"].missing == 1
    assert 25 + SETTLED < 60


async def test_an_older_report_that_arrives_late_changes_nothing(recorder: Recording) -> None:
    await report(recorder, answered=10, oldest_pending=11, at=0)
    await report(recorder, answered=5, oldest_pending=3, at=-1)

    assert await recorder.account() == {"g1": account("g1", 10, in_transit=10)}


async def test_answers_lost_with_a_replaced_outbox_are_missing(recorder: Recording) -> None:
    """The backup held 1 to 6; 7 to 12 were answered after it, of which 9 was recorded, and 12 never left the outbox."""
    await report(recorder, answered=11, oldest_pending=10)
    await recorder.store.record([delivery(seq) for seq in (1, 2, 3, 4, 5, 6, 9)])
    assert await recorder.account(later=1000) == {"g1": account("g1", 11, recorded=7, in_outbox=2, missing=2)}

    first, second = after(25), after(50)
    await report(recorder, answered=6, oldest_pending=7, at=25, replaced=True)
    assert await recorder.account(later=25) == {
        "g1": account("g1", 11, recorded=7, in_transit=2, missing=2, last_report=first)
    }
    assert await recorder.account(later=25 + SETTLED) == {
        "g1": account("g1", 11, recorded=7, missing=4, last_report=first)
    }

    await recorder.store.record([delivery(10), delivery(12)])  # a message that the broker still had
    await report(recorder, answered=6, oldest_pending=7, at=50, replaced=True)
    assert await recorder.account(later=50 + SETTLED) == {
        "g1": account("g1", 12, recorded=9, missing=3, last_report=second)
    }


@pytest.mark.parametrize("known_by", ["rows", "report"])
async def test_answers_of_a_replaced_outbox_of_this_process_are_missing_from_an_older_database(
    recorder: Recording, known_by: str
) -> None:
    """Database and outbox were restored from different backups: the outbox had answered more, or less."""
    await recorder.store.record([delivery(seq) for seq in range(1, 5)])
    newer, older = (OutboxState("g1", answered, answered + 1, replaced=True) for answered in (6, 3))
    assert (await recorder.account(newer))["g1"].missing == 2

    if known_by == "rows":
        await recorder.store.record([delivery(9)])
    else:
        await report(recorder, answered=9, oldest_pending=10)
    counted = (await recorder.account(older))["g1"]
    assert (counted.answered, counted.missing) == (9, 4 if known_by == "rows" else 5)


async def test_a_gateway_that_counts_again_is_logged(recorder: Recording) -> None:
    """As after a rollback of its whole disk, which it cannot notice."""
    with capture_logs() as logs:
        await report(recorder, answered=10, oldest_pending=11, at=0)
        await report(recorder, answered=9, oldest_pending=10, at=-1)  # an older report, delivered late
        await report(recorder, answered=6, oldest_pending=7, at=1, replaced=True)
        assert logs == []
        await report(recorder, answered=6, oldest_pending=7, at=25)
    (warning,) = logs
    assert (warning["event"], warning["gateway_id"]) == ("gateway_counts_again", "g1")
    assert (warning["answered"], warning["answered_before"]) == (6, 10)


async def test_a_report_of_a_clock_that_is_ahead_is_stored_as_now(recorder: Recording) -> None:
    early = OutboxStatus(OutboxState("g1", 1, 2), after(3600))
    await recorder.database.writer.transaction(partial(_store, OutboxReport(early, caught_up=True), NOW))

    assert (await recorder.account())["g1"].last_report == NOW


async def test_reports_are_stored_in_the_transaction_of_their_batch(recorder: Recording) -> None:
    reports = [OutboxReport(OutboxStatus(OutboxState(name, 2, 3), NOW), caught_up=False) for name in ("g2", "g1", "g2")]
    await recorder.store.record([delivery(1)], (), reports)

    assert await recorder.account() == {
        "g1": account("g1", 2, recorded=1, in_transit=1),
        "g2": account("g2", 2, in_transit=2),
    }


async def test_merged_reports_never_decrease_a_count(recorder: Recording) -> None:
    await report(recorder, answered=10, oldest_pending=11, at=0, gateway="behind")
    await report(recorder, answered=10, oldest_pending=11, at=0, gateway="ahead")
    async with recorder.database.readers.connect() as connection:
        rows = await read_all(connection, GATEWAYS)
    theirs = [row | {"respondidas": 20 if row["gateway_id"] == "behind" else 5} for row in rows]

    await recorder.database.writer.transaction(partial(merge_reports, theirs, NOW))

    accounts = await recorder.account()
    assert (accounts["behind"].answered, accounts["ahead"].answered) == (20, 10)


async def test_one_absurd_report_changes_no_sum_and_is_named(recorder: Recording) -> None:
    await recorder.store.record([delivery(seq) for seq in range(1, 101)])
    await report(recorder, answered=105, oldest_pending=103)
    before = (await recorder.account(later=SETTLED))["g1"]
    await report(recorder, answered=LARGEST_SEQ, oldest_pending=LARGEST_SEQ + 1, at=SETTLED + 1)

    for later in (SETTLED + 1, 10 * SETTLED):
        forged = (await recorder.account(later=later))["g1"]
        assert (forged.recorded, forged.missing, forged.unsupported) == (100, before.missing, LARGEST_SEQ)
        assert forged.answered < 110


@pytest.mark.parametrize("times", [1, 3], ids=["after one", "after several, of which one was settled"])
async def test_a_later_report_is_believed_again_after_an_absurd_one(recorder: Recording, times: int) -> None:
    await recorder.store.record([delivery(seq) for seq in range(1, 101)])
    for n in range(times):
        await report(recorder, answered=LARGEST_SEQ, oldest_pending=LARGEST_SEQ + 1, at=30 * n)
    last = 30 * times
    await report(recorder, answered=105, oldest_pending=103, at=last)

    expected = account("g1", 105, recorded=100, in_outbox=3, in_transit=2, last_report=after(last))
    assert (await recorder.account(later=last))["g1"] == expected
    await report(recorder, answered=105, oldest_pending=106, at=last + 30)
    settled = (await recorder.account(later=last + 30 + SETTLED))["g1"]
    assert (settled.answered, settled.missing, settled.unsupported) == (105, 5, None)


async def test_reports_of_unknown_gateways_are_bounded(recorder: Recording) -> None:
    await recorder.store.record([delivery(1)])
    await report(recorder, answered=1, oldest_pending=2)
    strangers = [
        OutboxReport(OutboxStatus(OutboxState(f"s{n}", 0, 1), NOW + timedelta(seconds=n)), caught_up=True)
        for n in range(MOST_REPORTED + 200)
    ]
    later = after(MOST_REPORTED + 200)
    for start in range(0, len(strangers), 300):
        part = strangers[start : start + 300]
        await recorder.database.writer.transaction(partial(store_reports, reports=part, now=later))

    async with recorder.database.readers.connect() as connection:
        stored = {row["gateway_id"] for row in await read_all(connection, GATEWAYS)}
    assert len(stored) == MOST_REPORTED
    assert {"g1", f"s{MOST_REPORTED + 199}"} <= stored
    found = await reconcile(recorder.database.readers, no_outboxes, later)
    assert len(found.accounts) == MOST_LISTED
    assert "g1" in {each.gateway_id for each in found.accounts}
    assert found.others == Others(MOST_REPORTED - MOST_LISTED, 0)
