"""A foreign publisher with a gateway's password and secret: it sends poison, and good messages a second time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import cycle
from random import Random
from typing import Self

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError

from chaos.faults.poison import KINDS, Poison, PoisonFactory
from shared.broker.topology import Topology
from shared.cancellation import background
from tests.support.loop_thread import in_loop_thread

_APP = "foreign"
"""Marks its messages. No gateway sets an app-id, so messages with one are not doubled."""
_CONNECT_SECONDS = 5
_CONFIRM_SECONDS = 5
_CLOSE_SECONDS = 2
_AGAIN_SECONDS = 0.5
_LATEST_SECONDS = 5
"""Longest delay of a second delivery, in seconds: before, in or after the transaction of the first."""
_SECONDS = 30
"""Timeout of the start, and of the end, of a publisher in a thread."""


class ForeignPublisher:
    """A publisher that continues through every restart of the broker; the messages in `sent` are confirmed."""

    def __init__(  # noqa: PLR0913 - where, as which gateway, and how often
        self, url: str, wanted: Topology, secret: bytes, *, seed: int, poison_seconds: float, doubled_share: float
    ) -> None:
        """Publish a poison message every `poison_seconds`, and the share `doubled_share` of good messages once more.

        The good events of the poison are recorded if `secret` is the recorder's enrolment secret.
        """
        self._url, self._topology = url, wanted
        self._pause, self._share, self._seed = poison_seconds, doubled_share, Random(seed)  # noqa: S311 - repeatable
        self._factory, self._kinds = PoisonFactory(Random(seed), secret), cycle(KINDS)  # noqa: S311 - the same
        self._stopping = asyncio.Event()
        self._unconfirmed: tuple[str, Poison] | None = None
        self.sent: list[Poison] = []
        self.kinds: Counter[str] = Counter()
        self.doubled = 0

    @asynccontextmanager
    async def running(self, finish_seconds: float) -> AsyncIterator[Self]:
        """Publish meanwhile, then finish what was started within `finish_seconds`; that needs the broker."""
        async with background(self._run()) as publishing:
            yield self
            self._stopping.set()
            async with asyncio.timeout(finish_seconds):
                await asyncio.wait({publishing})

    async def _run(self) -> None:
        while not self._stopping.is_set() or self._unconfirmed:
            with suppress(TimeoutError, DeliveryError, *CONNECTION_EXCEPTIONS):
                async with connected(self._url) as connection:
                    await self._publish_one(connection)  # confirmed: the recorder's queue exists, not only our own
                    await self._copy(connection)
                    while not self._stopping.is_set():
                        await self._wait(self._pause)
                        await self._publish_one(connection)
            await self._wait(_AGAIN_SECONDS)

    async def _publish_one(self, connection: AbstractConnection) -> None:
        if self._unconfirmed is None:
            kind = next(self._kinds)
            self._unconfirmed = kind, self._factory.make(kind)
        kind, poison = self._unconfirmed
        message = aio_pika.Message(
            poison.body,
            headers=dict(poison.headers),
            content_type=poison.content_type,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            app_id=_APP,
        )
        async with asyncio.timeout(_CONFIRM_SECONDS):
            async with connection.channel(on_return_raises=True) as channel:
                exchange = await channel.get_exchange(self._topology.events.exchange, ensure=False)
                await exchange.publish(message, self._topology.events.routing_key)
        self.sent.append(poison)
        self.kinds[kind] += 1
        self._unconfirmed = None

    async def _copy(self, connection: AbstractConnection) -> None:
        """Consume a copy of what gateways publish from now on, and publish a part of it to the recorder's queue."""
        async with asyncio.timeout(_CONFIRM_SECONDS):
            channel = await connection.channel()
            copies = await channel.declare_queue(exclusive=True)
            await copies.bind(self._topology.events.exchange, self._topology.events.routing_key)

            async def double(message: AbstractIncomingMessage) -> None:
                await self._double(channel, message)

            await copies.consume(double, no_ack=True)

    async def _double(self, channel: AbstractChannel, message: AbstractIncomingMessage) -> None:
        if message.app_id or self._seed.random() >= self._share:
            return
        await asyncio.sleep(self._seed.uniform(0, _LATEST_SECONDS))
        self._factory.genuine = message.body, message.headers
        again = aio_pika.Message(message.body, headers=message.headers, content_type=message.content_type)
        with suppress(TimeoutError, *CONNECTION_EXCEPTIONS):
            async with asyncio.timeout(_CONFIRM_SECONDS):
                await channel.default_exchange.publish(again, self._topology.events.name)
            self.doubled += 1

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AbstractConnection]:
    """Connect to the broker, and close without waiting for one that hangs."""
    async with asyncio.timeout(_CONNECT_SECONDS):
        connection = await aio_pika.connect(url)
    try:
        yield connection
    finally:
        with suppress(TimeoutError, *CONNECTION_EXCEPTIONS):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await connection.close()


@contextmanager
def foreign_publisher(  # noqa: PLR0913 - as ForeignPublisher
    url: str, wanted: Topology, secret: bytes, *, seed: int, poison_seconds: float, doubled_share: float
) -> Iterator[ForeignPublisher]:
    """Run a `ForeignPublisher` in a thread meanwhile; at the end all its `sent` messages are in the queue."""
    publisher = ForeignPublisher(
        url, wanted, secret, seed=seed, poison_seconds=poison_seconds, doubled_share=doubled_share
    )
    with in_loop_thread(publisher.running(_SECONDS), seconds=_SECONDS):
        yield publisher
