"""Faults of a running broker, and bugs of a consumer."""

import asyncio
import re
import signal
import sys
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import orjson
import pytest
from structlog.testing import capture_logs

from services.recorder.accounting.outbox_reports import OutboxReport
from services.recorder.ingest.parsing import DeadLetter
from services.recorder.ingest.store import Store
from shared.contracts.gateway_proof import GatewayKey
from shared.contracts.transport import Delivery, TransportDownError
from tests.support.broker import Broker, takes
from tests.support.database import query
from tests.support.enrolment import SECRET, enrolment
from tests.support.paths import ROOT
from tests.support.recorder_suite import delivery, event, recording
from tests.support.targets import SqliteTarget
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

FORGET_CONSUMER = """
    {ok, Queue} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)),
    [Consumer] = rabbit_amqqueue:consumers(Queue),
    Command = rabbit_fifo:make_checkout({element(2, Consumer), element(1, Consumer)}, cancel, #{}),
    {ok, _, _} = ra:process_command(amqqueue:get_pid(Queue), Command).
"""
"""The queue, a state machine of its own, drops its consumer; the channel and the client do not learn of it."""

DELIVERY = rb"(?s)(\x00\x3c\x00\x3c.ctag1\.[0-9a-f]{32}\x00{7})\x01"
"""Basic.Deliver with the delivery tag 1."""


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


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [(1, "messages are ready, but none is delivered"), (0, "the queue has no consumer any more")],
)
async def test_a_consumer_that_the_broker_forgot_consumes_again(
    broker: Broker, tmp_path: Path, waiting: int, reason: str
) -> None:
    await broker.declare()
    async with (
        recording(SqliteTarget(tmp_path / "p.db")) as recorder,
        broker.transport() as transport,
        broker.consumer(recorder.store, silence_seconds=5) as consumer,
    ):
        await until(lambda: consumer.consuming)
        with capture_logs() as logs:
            await asyncio.to_thread(broker.server.ctl, "eval", FORGET_CONSUMER % broker.topology.events.name)
            for seq in range(1, waiting + 1):
                assert await transport.publish([delivery(seq)]) == {seq}
            await until(lambda: any(line["event"] == "broker_consuming" for line in logs), seconds=30)
        assert [line["reason"] for line in logs if line["event"] == "broker_lost"] == [reason]
        await transport.publish([delivery(waiting + 1)])
        name = "predecir_recorder_predictions_recorded_total"
        await until(lambda: recorder.registry.get_sample_value(name) == waiting + 1, seconds=30)


@asynccontextmanager
async def first_tag_changed(broker: Broker) -> AsyncIterator[Broker]:
    """Forward connections to the broker; the first delivery gets the tag 2 instead of 1."""
    left = [1]

    def change(data: bytes) -> bytes:
        changed, found = re.subn(DELIVERY, b"\\1\x02", data, count=1) if left else (data, 0)
        del left[:found]
        return changed

    async def forward(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", broker.server.port)
        await asyncio.gather(copy(client, to_server, bytes), copy(server, to_client, change))

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, convert: Callable[[bytes], bytes]) -> None:
        while data := await source.read(2**16):
            sink.write(convert(data))
        sink.close()

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield replace(broker, url=broker.url.replace(f":{broker.server.port}/", f":{port}/"))


async def test_a_delivery_out_of_order_is_delivered_again(broker: Broker, tmp_path: Path) -> None:
    await broker.declare()
    with capture_logs() as logs:
        async with (
            recording(SqliteTarget(tmp_path / "p.db")) as recorder,
            broker.transport() as transport,
            first_tag_changed(broker) as disturbed,
            disturbed.consumer(recorder.store),
        ):
            await transport.publish([delivery(1)])
            name = "predecir_recorder_predictions_recorded_total"
            await until(lambda: recorder.registry.get_sample_value(name) == 1, seconds=30)
    assert [line["reason"] for line in logs if line["event"] == "broker_lost"] == ["deliveries came out of order"]


async def all_wait(broker: Broker) -> bool:
    async with broker.channel() as channel:
        queue = await channel.declare_queue(broker.topology.events.name, passive=True)
        return queue.declaration_result.message_count == GOOD


async def test_thirty_recorder_crashes_drop_no_good_message(broker: Broker, tmp_path: Path, services: Zygote) -> None:
    await broker.declare()
    bodies, key = [event() for _ in range(GOOD)], GatewayKey.generate()
    async with broker.transport(key, secret=SECRET) as transport:
        for seq, body in enumerate(bodies, start=1):
            await transport.publish([delivery(seq, body, gateway=key.gateway_id)])  # one message each
    environment = {
        "BROKER_URL": broker.url,
        "BROKER_PREFIX": broker.topology.events.exchange,
        **enrolment(tmp_path),
    }
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
