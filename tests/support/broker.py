"""The broker in one test: its own queues, publishing, reading and consuming."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractChannel
from pamqp.common import FieldValue
from pydantic import SecretStr

from services.gateway.outbox.rabbitmq import BrokerTransport
from services.gateway.outbox.signer import Signer
from services.recorder.ingest.consumer import Consumer
from services.recorder.ingest.policies import read_management_url
from services.recorder.ingest.store import Store
from services.recorder.ingest.trust import GatewayTrust, TrustPolicy
from shared.broker.topology import Queue, Topology, bind, declare
from shared.cancellation import background
from shared.contracts.gateway_proof import GatewayKey
from shared.contracts.transport import Delivery, Transport, TransportDownError
from tests.support.rabbitmq import RabbitServer
from tests.support.waiting import until


@dataclass(frozen=True, slots=True)
class Broker:
    """A server, the URL of a user, and queue names of one test."""

    server: RabbitServer
    url: str
    topology: Topology

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        async with await aio_pika.connect(self.url) as connection:
            yield await connection.channel()

    async def declare(self) -> None:
        """Declare the queues; they can be published to at once."""
        async with await aio_pika.connect(self.url) as connection:
            assert await declare(connection, self.topology) == {}
            await bind(await connection.channel(), self.topology)

    @asynccontextmanager
    async def transport(
        self, *keys: GatewayKey, secret: bytes | None = None, confirm_seconds: float = 10
    ) -> AsyncIterator[BrokerTransport]:
        """Publish meanwhile; the messages of `keys` are signed, those of other gateways are not."""
        signer = Signer(secret)
        signer.keys = {key.gateway_id: key for key in keys}
        transport = BrokerTransport(self.url, self.topology, signer, confirm_seconds=confirm_seconds)
        try:
            yield transport
        finally:
            await transport.aclose()

    @asynccontextmanager
    async def consumer(
        self,
        store: Store,
        *,
        trust: GatewayTrust | None = None,
        silence_seconds: float = 30,
        management: str | None = None,
    ) -> AsyncIterator[Consumer]:
        """Consume into `store` meanwhile; a consumer that crashed fails the test.

        By default messages without a signature are believed, as those of the tests' gateways "g1" and so on.
        """
        consumer = Consumer(
            self.url,
            self.topology,
            store,
            trust or GatewayTrust(TrustPolicy(unsigned=True), store),
            prefetch=10,
            silence_seconds=silence_seconds,
            management=None if management is None else read_management_url(SecretStr(management), self.url),
        )
        async with background(consumer.run()):
            yield consumer

    async def put(
        self, body: bytes, content_type: str, headers: Mapping[str, FieldValue], queue: Queue | None = None
    ) -> None:
        """Publish a foreign message, as an event, or directly to `queue`."""
        message = aio_pika.Message(body, content_type=content_type, headers=dict(headers))
        queue = queue or self.topology.events
        async with self.channel() as channel:
            exchange = await channel.get_exchange(queue.exchange)
            await exchange.publish(message, queue.routing_key)

    async def delivery_counts(self, queue: str) -> list[int]:
        """Return the number of failed deliveries of each message ready in `queue`; this call adds one."""
        async with self.channel() as channel:
            found, counts = await channel.get_queue(queue), []
            while (message := await found.get(fail=False)) is not None:
                counts.append(int(str(message.headers.get("x-delivery-count", 0))))
            return counts

    async def has_ready(self, queue: str) -> bool:
        """Return whether `queue` has a message that no consumer has."""
        async with self.channel() as channel:
            declared = await channel.declare_queue(queue, passive=True)
            return bool(declared.declaration_result.message_count)

    async def is_empty(self, queue: str) -> bool:
        """Return whether `queue` has no message, delivered or not."""
        return not await asyncio.to_thread(self.server.messages, queue)

    async def take(self, queue: str) -> list[bytes]:
        """Take all that is ready in `queue`."""
        bodies = []
        async with self.channel() as channel:
            found = await channel.get_queue(queue)
            while (message := await found.get(fail=False)) is not None:
                bodies.append(message.body)
                await message.ack()
        return bodies


async def takes(transport: Transport, delivery: Delivery) -> bool:
    """Return whether `transport` confirms `delivery` now."""
    with suppress(TransportDownError):
        return await transport.publish([delivery]) == {delivery.seq}
    return False


async def hand_over(transport: BrokerTransport, batch: Sequence[Delivery]) -> None:
    """Publish `batch` until it is confirmed, as a relay does: a new queue is bound seconds after its declaration."""

    async def taken() -> bool:
        with suppress(TransportDownError):
            return len(await transport.publish(batch)) == len(batch)
        return False

    await until(taken, seconds=30)
