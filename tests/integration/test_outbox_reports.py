"""Reports of gateways through a real broker, to recorders with and without the queue of reports."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from services.recorder.db.tables import GATEWAYS
from shared.contracts.transport import OutboxState, TransportDownError
from tests.support.broker import Broker
from tests.support.recorder_suite import Recording, delivery, recording
from tests.support.targets import SqliteTarget
from tests.support.waiting import until


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Recording]:
    async with recording(SqliteTarget(tmp_path / "predicciones.db")) as opened:
        yield opened


async def only_gateway(recorder: Recording) -> Any:  # noqa: ANN401 - a row
    """Return the row of the only gateway, once it has reported."""
    rows: list[Any] = []

    async def reported() -> bool:
        async with recorder.database.readers.connect() as connection:
            rows[:] = (await connection.execute(select(GATEWAYS))).all()
        return bool(rows)

    await until(reported)
    (row,) = rows
    return row


async def test_a_report_reaches_the_database(recorder: Recording, broker: Broker) -> None:
    await broker.declare()
    async with broker.transport() as transport, broker.consumer(recorder.store):
        await transport.publish([delivery(seq) for seq in range(1, 11)])
        await transport.report(OutboxState("g1", 12, 11))
        row = await only_gateway(recorder)

    assert (row.gateway_id, row.respondidas, row.pendiente_desde) == ("g1", 12, 11)
    assert row.al_dia is not None  # nothing else waited
    account = (await recorder.account())["g1"]
    assert (account.recorded, account.in_outbox, account.missing) == (10, 2, 0)


async def test_a_report_ahead_of_its_events_is_not_up_to_date(recorder: Recording, broker: Broker) -> None:
    await broker.declare()
    async with broker.transport() as transport:
        for seq in range(1, 201):
            await transport.publish([delivery(seq)])
        await transport.report(OutboxState("g1", 200, 201))
        async with broker.consumer(recorder.store):
            row = await only_gateway(recorder)

    assert row.al_dia is None


async def test_a_recorder_without_the_queue_of_reports_gets_none(broker: Broker) -> None:
    await broker.declare()
    async with broker.channel() as channel:
        await channel.queue_delete(broker.topology.states.name)  # as before the first start of a newer recorder
    async with broker.transport() as transport:
        await transport.report(OutboxState("g1", 1, 1))
        assert await transport.publish([delivery(1)]) == {1}

    (batch,) = await broker.take(broker.topology.events.name)
    assert b"prediccion.realizada" in batch


async def test_an_unreadable_report_is_logged_and_skipped(recorder: Recording, broker: Broker) -> None:
    await broker.declare()
    async with broker.transport() as transport, broker.consumer(recorder.store):
        with capture_logs() as logs:
            for body in (b"\xff", b'{"type":"gateway.estado","version":2}', uuid.uuid4().bytes):
                await broker.put(body, "text/plain", {}, broker.topology.states)
            await transport.report(OutboxState("g1", 1, 2))
            await only_gateway(recorder)
            await until(lambda: broker.is_empty(broker.topology.states.name), seconds=30)

    assert [line["event"] for line in logs].count("gateway_state_unreadable") == 3


async def test_the_queue_of_reports_is_bounded_and_keeps_the_newest(broker: Broker) -> None:
    await broker.declare()
    async with broker.transport() as transport:
        for answered in range(1200):
            await transport.report(OutboxState("g1", answered, answered + 1))

    waiting = await broker.take(broker.topology.states.name)
    assert len(waiting) == 1000
    assert b'"respondidas":1199' in waiting[-1]


async def test_a_report_without_an_exchange_raises_one_line(broker: Broker) -> None:
    async with broker.transport() as transport:
        with pytest.raises(TransportDownError, match="no exchange"):  # no recorder has started yet
            await transport.report(OutboxState("g1", 1, 2))
        await broker.declare()
        await transport.report(OutboxState("g1", 1, 2))
    assert len(await broker.take(broker.topology.states.name)) == 1
