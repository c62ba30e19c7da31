"""Faults of a running broker, and bugs of a consumer."""

import asyncio
import signal
import sys
import uuid
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import orjson
import pytest

from services.recorder.accounting.outbox_reports import OutboxReport
from services.recorder.ingest.parsing import DeadLetter
from services.recorder.ingest.store import Store
from shared.contracts.transport import Delivery, TransportDownError
from tests.support.broker import Broker, takes
from tests.support.database import query
from tests.support.paths import ROOT
from tests.support.recorder_suite import delivery, event
from tests.support.waiting import until
from tests.support.zygote import Zygote

CRASHES, GOOD = 30, 10
WITH_A_BUG = """
import sys
from services.recorder.app import alone
from services.recorder.settings import RecorderSettings
from services.recorder.ingest.store import Store
from shared.web.hosting import main

async def record(*_):
    raise RuntimeError("a bug")

Store.record = record
sys.exit(main("recorder", RecorderSettings, alone))
"""


class Buggy(Store):
    """A store that raises an unexpected error."""

    def __init__(self) -> None:
        pass

    async def writable(self) -> None:
        """Never down."""

    async def record(
        self, batch: Sequence[Delivery], unreadable: Sequence[DeadLetter] = (), heard: Sequence[OutboxReport] = ()
    ) -> set[int]:
        del heard
        raise RuntimeError(f"{len(batch)} and {len(unreadable)} are too many")


@pytest.mark.parametrize("kind", ["disk", "memory"])
async def test_an_alarm_is_a_broker_that_is_down_until_it_is_over(
    broker: Broker, kind: Literal["disk", "memory"]
) -> None:
    await broker.declare()
    async with broker.transport(confirm_seconds=1) as transport:
        assert await transport.publish([delivery(1)]) == {1}
        broker.server.alarm(kind, on=True)
        try:
            with pytest.raises(TransportDownError, match="did not confirm in time"):
                await transport.publish([delivery(2)])
            with pytest.raises(TransportDownError, match="one of its alarms"):
                await transport.publish([delivery(2)])
        finally:
            broker.server.alarm(kind, on=False)
        await until(lambda: takes(transport, delivery(2)), seconds=30)


async def test_a_gateway_that_starts_during_an_alarm_does_not_hang(broker: Broker) -> None:
    await broker.declare()
    broker.server.alarm(on=True)
    try:
        async with asyncio.timeout(20), broker.transport(confirm_seconds=0.5) as transport:
            for _ in range(3):
                with pytest.raises(TransportDownError):
                    await transport.publish([delivery(1)])
    finally:
        broker.server.alarm(on=False)


async def all_wait(broker: Broker) -> bool:
    async with broker.channel() as channel:
        queue = await channel.declare_queue(broker.topology.events.name, passive=True)
        return queue.declaration_result.message_count == GOOD


async def test_thirty_recorder_crashes_drop_no_good_message(broker: Broker, tmp_path: Path, services: Zygote) -> None:
    await broker.declare()
    bodies = [event() for _ in range(GOOD)]
    async with broker.transport() as transport:
        for seq, body in enumerate(bodies, start=1):
            await transport.publish([delivery(seq, body)])  # one message each
    environment = {"BROKER_URL": broker.url, "BROKER_PREFIX": broker.topology.events.exchange}
    for _ in range(CRASHES):
        doomed = services.start(["services.recorder"], tmp_path, environment | {"PREDECIR_FAILPOINT": "recorder.write"})
        assert doomed.ended() == -signal.SIGKILL
        assert '"event": "failpoint_hit"' in doomed.errors()
    await until(lambda: all_wait(broker), seconds=60)
    assert max(await broker.delivery_counts(broker.topology.events.name)) == CRASHES

    with services.running("services.recorder", tmp_path, environment):
        await until(lambda: len(query(tmp_path, "SELECT id FROM predicciones")) >= GOOD, seconds=60)
    rows = [str(uuid.UUID(str(row[0]))) for row in query(tmp_path, "SELECT id FROM predicciones")]
    assert sorted(rows) == sorted(orjson.loads(body)["id"] for body in bodies)
    assert query(tmp_path, "SELECT id FROM cuarentena") == []
    assert await broker.take(broker.topology.dead.name) == []


async def test_a_recorder_whose_consumer_crashed_exits(broker: Broker, tmp_path: Path) -> None:
    await broker.declare()
    async with broker.transport() as transport:
        await transport.publish([delivery(1)])
    environment = {"BROKER_URL": broker.url, "BROKER_PREFIX": broker.topology.events.exchange, "PORT": "0"}
    ended = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WITH_A_BUG, cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, stderr=PIPE
    )
    _, said = await asyncio.wait_for(ended.communicate(), 60)
    assert ended.returncode == 1
    assert b"a bug" in said
    assert len(await broker.take(broker.topology.events.name)) == 1


async def test_a_bug_ends_the_consumer_and_rejects_no_message(broker: Broker) -> None:
    await broker.declare()
    async with broker.transport() as transport:
        await transport.publish([delivery(1)])
    with pytest.raises(ExceptionGroup) as ended:
        async with broker.consumer(Buggy()):
            await asyncio.Event().wait()
    assert ended.group_contains(RuntimeError, match="too many")
    assert len(await broker.take(broker.topology.events.name)) == 1
