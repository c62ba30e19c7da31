"""From RabbitMQ to the store: what is there goes into one transaction, and is acknowledged after its commit.

Nothing else is ever said to the broker about a message: whatever goes wrong, the connection is closed, and what was
not acknowledged comes again. A plain connection and a loop of our own, because robust ones have stopped consuming
silently after a reconnect.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

import aio_pika
import structlog
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from services.recorder.accounting.outbox_reports import OutboxReports
from services.recorder.ingest.parsing import Poison
from shared.broker.settings import reason
from shared.broker.topology import SETTLE_SECONDS, bind, declare
from shared.contracts.event_batches import BatchError, unpack
from shared.contracts.events import EventError
from shared.contracts.outbox_status import GATEWAY_STATE, read_status
from shared.contracts.transport import TransportDownError
from shared.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue

    from services.recorder.ingest.store import Store
    from shared.broker.topology import Topology
    from shared.contracts.outbox_status import OutboxStatus
    from shared.contracts.transport import Delivery

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0
_RPC_SECONDS = 5
_EVENTS_PER_TRANSACTION = 2000
_HEARTBEAT_SECONDS = 6
"""The broker gives what a recorder holds to another after two to three of these without a sign of life."""
_log = structlog.get_logger()


class ConsumerLostError(Exception):
    """The broker delivers no more on this connection; another is needed."""


class Consumer:
    """Takes messages as long as it runs."""

    def __init__(self, url: str, wanted: Topology, store: Store, *, prefetch: int, silence_seconds: float) -> None:
        """Consume at `url`, at most `prefetch` messages ahead; ask the broker after `silence_seconds` without any."""
        self._url, self._topology, self._store = url, wanted, store
        self._prefetch, self._silence = prefetch, silence_seconds
        self.consuming = False

    async def run(self) -> None:
        """Consume until cancelled, through every restart of broker and database."""
        wait = _FIRST_WAIT
        while True:
            await self._store.writable()
            try:
                async with self._delivered() as inbox:
                    wait = _FIRST_WAIT
                    await inbox.record_all(self._store)
            except TransportDownError:
                continue  # the store has said why; all that was delivered is back in the queue
            except ConsumerLostError as error:
                _log.warning("broker_lost", reason=str(error))
            finally:
                self.consuming = False
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    @asynccontextmanager
    async def _delivered(self) -> AsyncIterator[_Inbox]:
        with _translated():
            async with asyncio.timeout(_RPC_SECONDS):
                connection = await aio_pika.connect(self._url, heartbeat=_HEARTBEAT_SECONDS)
        try:
            with _translated():
                async with asyncio.timeout(_RPC_SECONDS):
                    inbox = await self._consume(connection)
            self.consuming = True
            _log.info("broker_consuming", queue=self._topology.events.name)
            binding = asyncio.create_task(inbox.open_to_publishers(self._topology))
            try:
                yield inbox
            finally:
                binding.cancel()
                await asyncio.wait({binding})
        finally:
            with suppress(ConsumerLostError), _translated():
                async with asyncio.timeout(_RPC_SECONDS):
                    await connection.close()

    async def _consume(self, connection: AbstractConnection) -> _Inbox:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=self._prefetch)
        events, states = await declare(channel, self._topology)
        inbox = _Inbox(channel, events, self._silence)
        # The client only logs that the broker cancelled its consumer, and drops what is delivered to it after that.
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(inbox.end)
        await events.consume(inbox.put)
        await states.consume(inbox.put)
        return inbox


class _Inbox:
    """What one channel delivered and nobody has recorded yet, in the order of its delivery tags."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue, silence_seconds: float) -> None:
        self._channel, self._queue, self._silence = channel, queue, silence_seconds
        self._arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
        self._last_tag = 0
        self._last_event = asyncio.get_running_loop().time()
        channel.close_callbacks.add(self.end)

    def end(self, *_: object) -> None:
        """Let `record_all` end: no more will come."""
        self._arrived.put_nowait(None)

    async def open_to_publishers(self, wanted: Topology) -> None:
        """Bind the queues once they are sure to outlive the broker; where they were bound before, nothing changes."""
        await asyncio.sleep(SETTLE_SECONDS)
        try:
            with _translated():
                async with asyncio.timeout(_RPC_SECONDS):
                    await bind(self._channel, wanted)
        except ConsumerLostError as error:
            _log.warning("broker_not_bound", reason=str(error))
            self.end()

    async def put(self, message: AbstractIncomingMessage) -> None:
        self._arrived.put_nowait(message)

    async def record_all(self, store: Store) -> None:
        """Record what comes, until no more will."""
        while True:
            read = _Read()
            read.add(last := await self._next())
            while len(read.deliveries) < _EVENTS_PER_TRANSACTION and not self._arrived.empty():
                read.add(last := await self._next())
            # Asked after the reports came: no event waits that was in the queue before one of them was written.
            caught_up = bool(read.reports) and await self._is_empty()
            await store.record(
                read.deliveries, read.poison, [OutboxReports(report, caught_up) for report in read.reports]
            )
            failpoint("recorder.committed")
            with _translated():
                await last.ack(multiple=True)

    async def _next(self) -> AbstractIncomingMessage:
        while True:
            try:
                async with asyncio.timeout(self._silence):
                    message = await self._arrived.get()
                break
            except TimeoutError:
                await self._is_empty()
        if message is None:
            raise ConsumerLostError("the broker ended the channel or its consumer")
        self._last_tag += 1
        if message.delivery_tag != self._last_tag:  # acknowledging several at once would cover what was not recorded
            raise ConsumerLostError("deliveries came out of order")
        if message.routing_key != GATEWAY_STATE:
            self._last_event = asyncio.get_running_loop().time()
        return message

    async def _is_empty(self) -> bool:
        """Say whether no event waits to be delivered, and find out if the broker has forgotten us."""
        with _translated():
            async with asyncio.timeout(_RPC_SECONDS):
                found = await self._channel.declare_queue(self._queue.name, passive=True)
        ready = found.declaration_result.message_count
        silent = asyncio.get_running_loop().time() - self._last_event >= self._silence
        if ready and silent and self._arrived.empty():
            raise ConsumerLostError("messages are ready, but none is delivered")
        if not found.declaration_result.consumer_count:
            raise ConsumerLostError("the queue has no consumer any more")
        return not ready


@contextmanager
def _translated() -> Iterator[None]:
    """Call whatever the client raises by one name: its errors include RuntimeError, which from elsewhere is a bug."""
    try:
        yield
    except (TimeoutError, *CONNECTION_EXCEPTIONS) as error:
        raise ConsumerLostError(reason(error)) from None


class _Read:
    """What several messages hold, for one transaction."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.poison: list[Poison] = []
        self.reports: list[OutboxStatus] = []

    def add(self, message: AbstractIncomingMessage) -> None:
        if message.routing_key == GATEWAY_STATE:
            self._add_report(message.body)
            return
        try:
            self.deliveries += unpack(message.content_type, message.headers, message.body)
        except BatchError as error:
            # Nobody's number, so a negative one that is the same whenever this message comes again.
            number = int.from_bytes(hashlib.sha256(message.body).digest()[:7])
            poison = Poison("unreadable", f"not a batch of events: {error}", "", -number, message.body, None)
            self.poison.append(poison)

    def _add_report(self, body: bytes) -> None:
        try:
            self.reports.append(read_status(body))
        except EventError as error:
            _log.warning("gateway_state_unreadable", reason=str(error))  # nothing is lost: the next one says it all
