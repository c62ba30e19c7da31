"""From the gateway's relay through a real broker to a row, on both databases."""

import asyncio
import gc
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelPreconditionFailed
from pamqp.common import FieldValue
from pydantic import SecretStr
from sqlalchemy import text
from structlog.testing import capture_logs

from services.recorder.db.tables import CUARENTENA
from services.recorder.ingest.policies import log_lossy_policies, read_management_url
from shared.contracts.event_batches import CONTENT_TYPE, LARGEST_BODY
from shared.contracts.transport import OutboxState, TransportDownError
from tests.support.broker import Broker, hand_over, takes
from tests.support.postgres import PostgresServer
from tests.support.rabbitmq import largest_message
from tests.support.recorder_suite import Recording, delivery, recording
from tests.support.targets import PostgresTarget, SqliteTarget, Target
from tests.support.waiting import until

FAILS_FOR_EVERY_ROW = "CREATE TRIGGER fails BEFORE INSERT ON predicciones BEGIN SELECT json(new.id); END"
"""An id is no JSON: the error is that of a statement, not of a value."""


@pytest.fixture
async def recorder(target: Target) -> AsyncIterator[Recording]:
    async with recording(target) as opened:
        yield opened


@pytest.fixture
async def sqlite_recorder(tmp_path: Path) -> AsyncIterator[Recording]:
    async with recording(SqliteTarget(tmp_path / "predicciones.db")) as opened:
        yield opened


async def recorded(recorder: Recording, count: int) -> None:
    """Wait until `count` predictions are recorded."""
    name = "predecir_recorder_predictions_recorded_total"
    await until(lambda: recorder.registry.get_sample_value(name) == count, seconds=30)


async def test_few_messages_of_each_queue_are_in_memory_at_once(sqlite_recorder: Recording, broker: Broker) -> None:
    def ahead() -> dict[str, str]:
        rows = (
            line.split("\t")
            for line in broker.server.ctl("list_consumers", "queue_name", "prefetch_count").splitlines()
        )
        return {queue: count for queue, count in rows if queue.startswith(broker.topology.events.exchange)}

    async def all_are_consumed() -> bool:
        return len(await asyncio.to_thread(ahead)) == len(expected)

    expected = {queue.name: "5" for queue in (broker.topology.states, broker.topology.dead)}
    expected[broker.topology.events.name] = "10"  # the setting
    async with broker.consumer(sqlite_recorder.store):
        await until(all_are_consumed, seconds=30)
        assert ahead() == expected


async def test_what_is_published_becomes_rows_and_nothing_stays_behind(recorder: Recording, broker: Broker) -> None:
    batch = [delivery(seq) for seq in range(1, 1001)]
    await broker.declare()
    async with broker.transport() as transport, broker.consumer(recorder.store):
        assert await transport.publish(batch) == set(range(1, 1001))
        await recorded(recorder, 1000)

    assert [row.seq for row in await recorder.rows()] == list(range(1, 1001))
    assert (await recorder.account(OutboxState("g1", 1000, 1001)))["g1"].missing == 0
    assert await broker.take(broker.topology.events.name) == []


async def test_a_new_queue_takes_nothing_before_it_is_on_the_brokers_disk(recorder: Recording, broker: Broker) -> None:
    async with broker.transport() as transport, broker.consumer(recorder.store) as consumer:
        await until(lambda: consumer.consuming)
        with pytest.raises(TransportDownError, match="no queue for it"):
            await transport.publish([delivery(1)])
        await until(lambda: takes(transport, delivery(1)), seconds=30)
        await recorded(recorder, 1)


async def test_large_events_go_in_messages_that_the_broker_takes(broker: Broker) -> None:
    """The broker closes the channel for a message that is larger than deploy/rabbitmq.conf allows."""
    await broker.declare()
    async with broker.transport() as transport:
        batch = [delivery(seq, b'"%s"' % (b"x" * 100_000)) for seq in range(1, 201)]
        assert await transport.publish(batch) == set(range(1, 201))
    messages = await broker.take(broker.topology.events.name)
    assert sum(body.count(b",\n") + 1 for body in messages) == 200


async def test_the_broker_refuses_a_message_larger_than_a_gateway_s_largest(broker: Broker) -> None:
    await broker.declare()
    await broker.put(b" " * LARGEST_BODY, CONTENT_TYPE, {})
    with pytest.raises(ChannelPreconditionFailed, match="size"):
        await broker.put(b" " * (largest_message() + 1), CONTENT_TYPE, {})
    assert [len(body) for body in await broker.take(broker.topology.events.name)] == [LARGEST_BODY]


async def test_poison_in_a_batch_is_set_aside_alone(recorder: Recording, broker: Broker) -> None:
    batch = [delivery(seq, b"\x00 poison" if seq % 50 == 0 else None) for seq in range(1, 1001)]
    await broker.declare()
    async with broker.transport() as transport, broker.consumer(recorder.store):
        await transport.publish(batch)
        await recorded(recorder, 980)

    poison = await recorder.rows(CUARENTENA)
    assert [(row.seq, row.cuerpo, row.motivo) for row in poison] == [
        (seq, b"\x00 poison", "not JSON") for seq in range(50, 1001, 50)
    ]
    assert (await recorder.account(OutboxState("g1", 1000, 1001)))["g1"].missing == 0


async def test_a_message_that_is_no_batch_is_set_aside_with_its_bytes(recorder: Recording, broker: Broker) -> None:
    await broker.declare()
    async with broker.transport() as transport, broker.consumer(recorder.store):
        for _ in range(2):  # as if it were delivered twice
            await broker.put(b"hello?", "text/plain", {})
        await transport.publish([delivery(1)])
        await recorded(recorder, 1)

    [row] = await recorder.rows(CUARENTENA)
    assert (row.cuerpo, row.gateway_id) == (b"hello?", "")
    assert row.motivo.startswith("not a batch of events: not of type")
    assert {name: account.missing for name, account in (await recorder.account()).items()} == {"g1": 0}


async def test_a_database_that_is_down_gets_its_messages_later(
    recorder: Recording, broker: Broker, target: Target
) -> None:
    await broker.declare()
    async with broker.transport() as transport, broker.consumer(recorder.store) as consumer:
        await until(lambda: consumer.consuming)
        with target.unwritable():
            await transport.publish([delivery(seq) for seq in range(1, 501)])
            await until(lambda: recorder.store.down() is not None and not consumer.consuming)
        await recorded(recorder, 500)

    assert [row.seq for row in await recorder.rows()] == list(range(1, 501))


async def test_the_messages_of_a_lost_connection_are_freed_before_the_next(
    recorder: Recording, broker: Broker, target: Target
) -> None:
    """Not when the garbage collector runs by itself: it counts objects, not the bytes of their messages."""

    def in_memory() -> int:
        messages = (thing for thing in gc.get_objects() if isinstance(thing, AbstractIncomingMessage))
        return sum(message.exchange == broker.topology.events.exchange for message in messages)

    await broker.declare()
    async with broker.transport() as transport:
        for seq in range(1, 101):
            await transport.publish([delivery(seq)])
    gc.collect()
    gc.disable()
    try:
        async with AsyncExitStack() as opened:
            with target.unwritable():
                await opened.enter_async_context(broker.consumer(recorder.store))
                await until(lambda: recorder.store.down() is not None)
            await recorded(recorder, 100)
            await until(lambda: in_memory() <= 1)  # the last one, which is acknowledged
    finally:
        gc.enable()


async def test_two_recorders_share_the_work_and_double_nothing(postgres: PostgresServer, broker: Broker) -> None:
    target = PostgresTarget(postgres, postgres.new_database())  # an SQLite file has one recorder
    await broker.declare()
    async with (
        recording(target) as one,
        recording(target) as other,
        broker.consumer(one.store),
        broker.consumer(other.store),
        broker.transport() as transport,
    ):
        for start in range(1, 2001, 20):
            await transport.publish([delivery(seq) for seq in range(start, start + 20)])
        seen = [recording.registry for recording in (one, other)]
        name = "predecir_recorder_predictions_recorded_total"
        await until(lambda: sum(registry.get_sample_value(name) or 0 for registry in seen) == 2000)
        assert len(await one.rows()) == 2000


async def test_what_no_queue_takes_is_not_confirmed_and_is_once_there_is_one(broker: Broker) -> None:
    events = broker.topology.events
    async with broker.transport() as transport:
        with pytest.raises(TransportDownError, match=r"did not accept it.*no exchange"):
            await transport.publish([delivery(1)])
        async with broker.channel() as channel:
            await channel.declare_exchange(events.exchange, "direct", durable=True)
        with pytest.raises(TransportDownError, match="no queue for it"):
            await transport.publish([delivery(1)])
        await broker.declare()
        assert await transport.publish([delivery(1)]) == {1}
    assert len(await broker.take(events.name)) == 1


async def test_what_the_broker_gives_up_on_waits_in_the_dead_letter_queue(broker: Broker) -> None:
    await broker.declare()
    await broker.put(b"rejected", "text/plain", {})
    async with broker.channel() as channel:
        message = await (await channel.get_queue(broker.topology.events.name)).get()
        assert message is not None
        await message.reject(requeue=False)
        dead = await channel.get_queue(broker.topology.dead.name)
        found: list[bytes] = []

        async def arrived() -> bool:
            if (given_up := await dead.get(fail=False)) is not None:
                await given_up.ack()
                found.append(given_up.body)
            return bool(found)

        await until(arrived)
        assert found == [b"rejected"]


@pytest.mark.parametrize(
    ("policy", "reason"), [({"message-ttl": 1}, "expired"), ({"max-length": 1, "overflow": "drop-head"}, "maxlen")]
)
async def test_what_a_policy_drops_is_recorded_and_logged(
    sqlite_recorder: Recording, broker: Broker, policy: dict[str, Any], reason: str
) -> None:
    """As while no recorder runs: the broker moves messages to its dead letters."""
    queue, dead = broker.topology.events.name, broker.topology.dead.name
    await broker.declare()
    broker.server.ctl("set_policy", queue, f"^{queue}$", json.dumps(policy), "--apply-to", "queues")
    try:
        async with broker.transport() as transport:
            for seq in (1, 2, 3):  # a message each
                assert await transport.publish([delivery(seq)]) == {seq}
        async with broker.channel() as channel:

            async def dropped() -> bool:
                declared = await channel.declare_queue(dead, passive=True)
                return (declared.declaration_result.message_count or 0) >= 2

            await until(dropped)
    finally:
        broker.server.ctl("clear_policy", queue)
    with capture_logs() as logs:
        async with broker.consumer(sqlite_recorder.store):
            await recorded(sqlite_recorder, 3)
    assert (await sqlite_recorder.account(OutboxState("g1", 3, 4)))["g1"].missing == 0
    warnings = [line for line in logs if line["event"] == "broker_dropped_messages"]
    assert {(line["queue"], line["reason"], line["log_level"]) for line in warnings} == {(queue, reason, "warning")}
    assert "policy" in warnings[0]["cause"]


async def _reject_one(broker: Broker, dead: str) -> None:
    """Make the broker move the next event to its dead letters, in the queue `dead`."""
    async with broker.channel() as channel:
        message = await (await channel.get_queue(broker.topology.events.name)).get()
        assert message is not None
        await message.reject(requeue=False)
    await until(lambda: broker.has_ready(dead), seconds=30)


async def test_dead_letters_outlive_a_database_that_rejects_writes(sqlite_recorder: Recording, broker: Broker) -> None:
    """A policy limits the deliveries of the queue to two."""
    dead, writer = broker.topology.dead.name, sqlite_recorder.database.writer
    await broker.declare()
    async with broker.transport() as transport:
        await transport.publish([delivery(1)])
    await _reject_one(broker, dead)
    broker.server.ctl("set_policy", dead, f"^{dead}$", '{"delivery-limit": 2}', "--apply-to", "queues")
    try:
        # The probe of the store succeeds meanwhile: it writes no row.
        await writer.transaction(lambda c: c.execute(text(FAILS_FOR_EVERY_ROW)))
        with capture_logs() as logs:
            async with broker.consumer(sqlite_recorder.store):
                await until(lambda: [line["event"] for line in logs].count("database_not_writable") > 4, seconds=30)
                await writer.transaction(lambda c: c.execute(text("DROP TRIGGER fails")))
                await recorded(sqlite_recorder, 1)
    finally:
        broker.server.ctl("clear_policy", dead)


async def test_a_dead_letter_is_kept_however_often_a_consumer_is_lost(
    sqlite_recorder: Recording, broker: Broker
) -> None:
    """RabbitMQ 4 drops a message after 20 deliveries, unless its queue has another limit."""

    async def taken_and_given_back() -> bool:
        return bool(await broker.delivery_counts(broker.topology.dead.name))

    await broker.declare()
    async with broker.transport() as transport:
        await transport.publish([delivery(1)])
    await _reject_one(broker, broker.topology.dead.name)
    for _ in range(25):
        await until(taken_and_given_back, seconds=30)
    async with broker.consumer(sqlite_recorder.store):
        await recorded(sqlite_recorder, 1)


async def _declare_as_0_1_0(broker: Broker, arguments: dict[str, FieldValue]) -> None:
    """Declare and bind the queue of dead letters of version 0.1.0, without the one that took over."""
    async with broker.channel() as channel:
        former = await channel.declare_queue(broker.topology.former_dead, durable=True, arguments=arguments)
        await former.bind(broker.topology.dead.exchange, broker.topology.dead.routing_key)
        await channel.queue_delete(broker.topology.dead.name)


@pytest.mark.parametrize("arguments", [{"x-queue-type": "quorum"}, {"x-queue-type": "classic", "x-max-length": 9}])
async def test_dead_letters_of_the_former_queue_are_recorded_at_an_upgrade(
    sqlite_recorder: Recording, broker: Broker, arguments: dict[str, FieldValue]
) -> None:
    former = broker.topology.former_dead
    await broker.declare()
    await _declare_as_0_1_0(broker, arguments)
    async with broker.transport() as transport:
        await transport.publish([delivery(1)])
        await _reject_one(broker, former)
        async with broker.consumer(sqlite_recorder.store):
            await recorded(sqlite_recorder, 1)
            await until(lambda: broker.is_empty(former), seconds=30)
        await transport.publish([delivery(2)])
        await _reject_one(broker, broker.topology.dead.name)
    assert await broker.is_empty(former)  # no longer bound
    async with broker.consumer(sqlite_recorder.store):
        await recorded(sqlite_recorder, 2)


async def test_a_queue_with_other_arguments_is_consumed_and_logged(sqlite_recorder: Recording, broker: Broker) -> None:
    queues = {queue.name: queue for queue in (broker.topology.events, broker.topology.dead, broker.topology.states)}
    async with broker.channel() as channel:
        for name in queues:
            await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 9})
    with capture_logs() as logs:
        async with broker.consumer(sqlite_recorder.store), broker.transport() as transport:
            await until(lambda: takes(transport, delivery(1)), seconds=30)
            await recorded(sqlite_recorder, 1)
    warnings = [line for line in logs if line["event"] == "broker_queue_differs"]
    assert {line["queue"] for line in warnings} == queues.keys()
    assert all(line["log_level"] == "warning" and "inequivalent arg" in line["reason"] for line in warnings)


async def test_an_outage_longer_than_the_consumer_timeout_loses_no_dead_letter(
    sqlite_recorder: Recording, broker: Broker
) -> None:
    """After 30 minutes the broker closes the channel of a consumer that has not acknowledged; here after 1 second."""
    await broker.declare()
    async with broker.transport() as transport:
        await transport.publish([delivery(1)])
    await _reject_one(broker, broker.topology.dead.name)
    writer = sqlite_recorder.database.writer
    with consumer_timeout(broker, milliseconds=1000), capture_logs() as logs:
        await writer.transaction(lambda c: c.execute(text(FAILS_FOR_EVERY_ROW)))
        async with broker.consumer(sqlite_recorder.store):
            await until(lambda: "database_not_writable" in [line["event"] for line in logs], seconds=30)
            await until(lambda: broker.has_ready(broker.topology.dead.name), seconds=30)  # taken from the consumer
            await writer.transaction(lambda c: c.execute(text("DROP TRIGGER fails")))
            await recorded(sqlite_recorder, 1)
            await until(lambda: broker.is_empty(broker.topology.dead.name), seconds=30)
    assert len(await sqlite_recorder.rows()) == 1
    assert await sqlite_recorder.rows(CUARENTENA) == []


@contextmanager
def consumer_timeout(broker: Broker, *, milliseconds: int) -> Iterator[None]:
    """Shorten the time that a consumer has for its acknowledgement, on channels that are opened meanwhile."""
    both = "application:set_env(rabbit, consumer_timeout, %d), application:set_env(rabbit, channel_tick_interval, %d)."
    broker.server.ctl("eval", both % (milliseconds, 500))
    try:
        yield
    finally:
        broker.server.ctl("eval", both % (1_800_000, 60_000))


async def test_policies_that_lose_messages_are_logged_at_the_start(sqlite_recorder: Recording, broker: Broker) -> None:
    management, prefix = broker.server.management(), broker.topology.events.exchange
    policies = {
        "recorder": {"message-ttl": 60_000, "max-length": 10},  # that length only rejects: our overflow holds
        "dead-letters": {"max-length": 10},
        "gateways": {"message-ttl": 60_000},  # harmless
    }
    names = {queue: f"{prefix}-{queue}" for queue in policies}
    for queue, policy in policies.items():
        pattern = rf"^{prefix}\.{queue}$"
        broker.server.ctl("set_policy", names[queue], pattern, json.dumps(policy), "--apply-to", "queues")
    with capture_logs() as logs:
        async with broker.consumer(sqlite_recorder.store, management=management):
            await until(lambda: [line["event"] for line in logs].count("broker_policy_loses_messages") == 2)
    warnings = [
        (line["queue"], line["policies"], line["settings"], line["log_level"])
        for line in logs
        if line["event"] == "broker_policy_loses_messages"
    ]
    assert warnings == [
        (broker.topology.events.name, [names["recorder"]], {"message-ttl": 60_000}, "warning"),
        (broker.topology.dead.name, [names["dead-letters"]], {"max-length": 10}, "warning"),
    ]
    for name in names.values():
        broker.server.ctl("clear_policy", name)


async def test_policies_that_cannot_be_read_are_reported_with_the_reason(broker: Broker) -> None:
    stranger = secrets.token_hex(8)
    broker.server.ctl("add_user", stranger, stranger)
    management = broker.server.management()
    for url, reason in (
        (management.replace("//", f"//{stranger}:{stranger}@"), "answers 401 Unauthorized; does its user have the tag"),
        (f"{management}/elsewhere", "BROKER_MANAGEMENT_URL answers 4"),
        ("http://127.0.0.1:1", "Connection refused"),
        (f"http://{'a' * 64}:15672", "label"),
    ):
        with capture_logs() as logs:
            await log_lossy_policies(read_management_url(SecretStr(url), broker.url), broker.topology)
        (line,) = logs
        assert line["event"] == "broker_policies_unknown"
        assert reason in line["reason"]
        assert stranger not in str(logs)


async def test_a_queue_deleted_under_a_consumer_is_made_again(recorder: Recording, broker: Broker) -> None:
    async with broker.consumer(recorder.store) as consumer, broker.transport() as transport:
        await until(lambda: consumer.consuming)
        async with broker.channel() as channel:
            await channel.queue_delete(broker.topology.events.name)
        with capture_logs() as logs:
            await until(lambda: any(line["event"] == "broker_consuming" for line in logs))
        await hand_over(transport, [delivery(1)])
        await recorded(recorder, 1)


async def test_the_error_of_a_wrong_password_contains_no_password(broker: Broker) -> None:
    secret = secrets.token_hex(8)
    wrong = replace(broker, url=broker.server.url_of("predecir", secret))
    async with wrong.transport() as transport:
        with pytest.raises(TransportDownError, match="ACCESS_REFUSED") as caught:
            await transport.publish([delivery(1)])
    assert secret not in str(caught.value)


async def test_a_wrong_virtual_host_is_named_as_the_reason(recorder: Recording, broker: Broker) -> None:
    stranger = secrets.token_hex(8)
    broker.server.ctl("add_user", stranger, stranger)
    for url in (f"{broker.url}absent", broker.server.url_of(stranger, stranger)):
        wrong = replace(broker, url=url)
        with capture_logs() as logs:
            async with wrong.transport() as transport, wrong.consumer(recorder.store):
                with pytest.raises(TransportDownError, match="cannot be reached: the virtual host of BROKER_URL"):
                    await transport.publish([delivery(1)])
                await until(lambda: any(line["event"] == "broker_lost" for line in logs))
        (reason,) = {line["reason"] for line in logs if line["event"] == "broker_lost"}
        assert reason == "the virtual host of BROKER_URL does not exist, or its user has no permission for it"


async def test_an_unreachable_broker_is_one_error_line(recorder: Recording, broker: Broker) -> None:
    nowhere = replace(broker, url="amqp://predecir:x@127.0.0.1:1/")
    async with nowhere.transport() as transport:
        with pytest.raises(TransportDownError, match="the broker cannot be reached"):
            await transport.publish([delivery(1)])
    with capture_logs() as logs:
        async with nowhere.consumer(recorder.store):
            await until(lambda: bool(logs))
    assert logs[0]["event"] == "broker_lost"


async def test_each_service_gets_by_with_the_least_rights(recorder: Recording, broker: Broker) -> None:
    prefix = broker.topology.events.exchange
    gateway = _user(broker, configure="^$", write=f"^{prefix}$", read="^$")
    consumer = _user(broker, configure=rf"^{prefix}(\..+)?$", write=rf"^{prefix}\..+$", read=rf"^{prefix}(\..+)?$")
    async with consumer.consumer(recorder.store) as consuming, gateway.transport() as transport:
        await until(lambda: consuming.consuming)

        async def heard() -> bool:
            await transport.report(OutboxState("g1", 3, 2))
            return (await recorder.account())["g1"].answered == 3

        await hand_over(transport, [delivery(1)])
        await recorded(recorder, 1)
        await until(heard)

    async with consumer.transport() as transport:
        with pytest.raises(TransportDownError, match="ACCESS_REFUSED"):
            await transport.publish([delivery(2)])
    with capture_logs() as logs:
        async with gateway.consumer(recorder.store):
            await until(lambda: bool(logs))
    assert "ACCESS_REFUSED" in logs[0]["reason"]


def _user(broker: Broker, **rights: str) -> Broker:
    name, password = secrets.token_hex(4), secrets.token_hex(8)
    broker.server.ctl("add_user", name, password)
    broker.server.ctl("set_permissions", name, rights["configure"], rights["write"], rights["read"])
    return replace(broker, url=broker.server.url_of(name, password))
