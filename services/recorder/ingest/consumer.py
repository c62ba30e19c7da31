"""Consumer of RabbitMQ: records all delivered messages in one transaction, and acknowledges them after its commit.

It never rejects a message: on any error it closes the connection, and the broker delivers unacknowledged messages
again; only the broker's dead letters wait here for the database. It uses plain connections and reconnects by itself,
because robust connections have stopped consuming silently after a reconnect.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from services.recorder.accounting.outbox_reports import OutboxReport
from services.recorder.ingest.messages import EventMessage, message_number
from services.recorder.ingest.parsing import DeadLetter
from services.recorder.ingest.policies import Management, log_lossy_policies
from services.recorder.ingest.properties import read_any_properties
from services.recorder.ingest.store import Store
from services.recorder.ingest.trust import GatewayTrust
from shared.broker.settings import reason as error_reason
from shared.broker.topology import SETTLE_SECONDS, Topology, bind, declare, unbind_former
from shared.contracts.event_batches import BatchError
from shared.contracts.events import EventError
from shared.contracts.gateway_proof import Claim
from shared.contracts.outbox_status import GATEWAY_STATE, OutboxStatus, read_status
from shared.contracts.transport import Delivery, TransportDownError
from shared.failpoints import failpoint

_MIN_RETRY_SECONDS = 0.1
_MAX_RETRY_SECONDS = 5.0
_RPC_SECONDS = 5
_EVENTS_PER_TRANSACTION = 2000
_BYTES_PER_TRANSACTION = 16 << 20
OTHER_PREFETCH = 5
"""Messages ahead of each other queue than that of events; they are few. The broker counts for each consumer."""
_HEARTBEAT_SECONDS = 6
"""The broker redelivers unacknowledged messages to another recorder after two to three missed heartbeats."""
_DEATH_REASON, _DEATH_QUEUE = "x-first-death-reason", "x-first-death-queue"
_LONGEST_LOGGED = 100
"""Characters of a header in the log: a publisher can set it."""
_POLICIES = {
    "expired": "a policy with message-ttl",
    "maxlen": "a policy with overflow and a maximum length",
    "delivery_limit": "a policy with delivery-limit",
}
"""The cause of a dead letter by the broker's reason."""
_log = structlog.get_logger()


class ConsumerLostError(Exception):
    """The broker no longer delivers on this connection; a new one is needed."""


class Consumer:
    """Records messages of the broker."""

    def __init__(  # noqa: PLR0913 - its parts, and three settings
        self,
        url: str,
        topology: Topology,
        store: Store,
        trust: GatewayTrust,
        *,
        prefetch: int,
        silence_seconds: float,
        management: Management | None = None,
    ) -> None:
        """Consume at `url`, at most `prefetch` messages of events ahead.

        After `silence_seconds` without any, the queue is checked.
        """
        self._url, self._topology, self._store, self._trust = url, topology, store, trust
        self._prefetch, self._silence, self._management = prefetch, silence_seconds, management
        self.consuming = False
        self._retry_seconds = _MIN_RETRY_SECONDS

    async def run(self) -> None:
        """Consume until cancelled; reconnect after every restart of broker or database."""
        read_any_properties()
        while True:
            await self._store.writable()
            # A lost connection is a cycle that has its messages. The collector counts objects, not their bytes, so the
            # messages of several connections would be in memory at once.
            gc.collect()
            try:
                await self._record_until_lost()
            except TransportDownError:
                continue  # logged by the store; closing the connection requeued the messages
            except ConsumerLostError as error:
                _log.warning("broker_lost", reason=str(error))
            finally:
                self.consuming = False
            await asyncio.sleep(self._retry_seconds)
            self._retry_seconds = min(self._retry_seconds * 2, _MAX_RETRY_SECONDS)

    async def _record_until_lost(self) -> None:
        async with self._connected() as inbox:
            self._retry_seconds = _MIN_RETRY_SECONDS
            await inbox.record_all(self._store, self._trust)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator["_Inbox"]:
        async with _client_call():
            connection = await aio_pika.connect(self._url, heartbeat=_HEARTBEAT_SECONDS)
        try:
            async with _client_call():
                inbox = await self._consume(connection)
            self.consuming = True
            _log.info("broker_consuming", queue=self._topology.events.name)
            binding = asyncio.create_task(self._open_to_publishers(connection, inbox))
            try:
                yield inbox
            finally:
                binding.cancel()
                await asyncio.wait({binding})
        finally:
            with suppress(ConsumerLostError):
                async with _client_call():
                    await connection.close()

    async def _open_to_publishers(self, connection: AbstractConnection, inbox: "_Inbox") -> None:
        await inbox.open_to_publishers(connection, self._topology)
        if self._management is None:
            _log.info("broker_policies_unknown", reason="BROKER_MANAGEMENT_URL is not set")
        else:
            await log_lossy_policies(self._management, self._topology)

    async def _consume(self, connection: AbstractConnection) -> "_Inbox":
        for queue, difference in (await declare(connection, self._topology)).items():
            _log.warning("broker_queue_differs", queue=queue, reason=difference)
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=self._prefetch)
        events = await channel.get_queue(self._topology.events.name, ensure=False)
        states = await channel.get_queue(self._topology.states.name, ensure=False)
        inbox = _Inbox(channel, events, self._silence)
        # When the broker cancels a consumer, the client only logs it, and drops later deliveries.
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(inbox.end)
        await events.consume(inbox.put)
        await channel.set_qos(prefetch_count=min(self._prefetch, OTHER_PREFETCH))  # of consumers from here on
        await states.consume(inbox.put)
        return inbox


class _Inbox:
    """Messages of one channel that are not recorded yet, in the order of their delivery tags."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue, silence_seconds: float) -> None:
        self._channel, self._queue, self._silence = channel, queue, silence_seconds
        self._arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
        self._last_tag = 0
        self._last_event = asyncio.get_running_loop().time()
        channel.close_callbacks.add(self.end)

    def end(self, *_: object) -> None:
        """End `record_all`: no more messages are delivered."""
        self._arrived.put_nowait(None)

    async def open_to_publishers(self, connection: AbstractConnection, topology: Topology) -> None:
        """Bind the queues as soon as they survive a restart of the broker; it does not matter if they are bound.

        Then consume the broker's dead letters, too, and those that the queue of version 0.1.0 still has. Not before,
        since RabbitMQ 4 drops a message of that queue after 20 deliveries, and a recorder that crashes at its start
        must not use them up.
        """
        await asyncio.sleep(SETTLE_SECONDS)
        try:
            async with _client_call():
                await bind(self._channel, topology)
                names = [topology.dead.name]
                if await unbind_former(connection, topology):
                    names.append(topology.former_dead)
                for name in names:
                    await (await self._channel.get_queue(name, ensure=False)).consume(self.put)
        except ConsumerLostError as error:
            _log.warning("broker_not_bound", reason=str(error))
            self.end()

    async def put(self, message: AbstractIncomingMessage) -> None:
        self._arrived.put_nowait(message)

    async def record_all(self, store: Store, trust: GatewayTrust) -> None:
        """Record messages that `trust` believes until the broker delivers no more."""
        while True:
            batch = _Batch(trust)
            await batch.add(last := await self._next())
            while not (batch.is_full or self._arrived.empty()):
                await batch.add(last := await self._next())
            # Checked after the reports arrived: then every event that was queued before a report is delivered.
            caught_up = bool(batch.reports) and await self._is_empty()
            reports = [OutboxReport(report, caught_up) for report in batch.reports]
            await self._record(store, batch, reports)
            failpoint("recorder.committed")
            batch.log_dropped()
            async with _client_call(seconds=None):
                await last.ack(multiple=True)

    async def _record(self, store: Store, batch: "_Batch", reports: list[OutboxReport]) -> None:
        """Record `batch`. One with dead letters is retried here: their deliveries may be limited."""
        while True:
            try:
                await store.record(batch.deliveries, batch.dead_letters, reports)
            except TransportDownError:
                if not batch.has_dropped:
                    raise
                await store.writable()
            else:
                return

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
        if message.delivery_tag != self._last_tag:  # acknowledging several at once would include unrecorded ones
            raise ConsumerLostError("deliveries came out of order")
        if message.routing_key != GATEWAY_STATE:
            self._last_event = asyncio.get_running_loop().time()
        return message

    async def _is_empty(self) -> bool:
        """Return whether no event waits in the queue; raise if the broker has lost this consumer."""
        async with _client_call():
            queue = await self._channel.declare_queue(self._queue.name, passive=True)
        ready = queue.declaration_result.message_count
        silent = asyncio.get_running_loop().time() - self._last_event >= self._silence
        if ready and silent and self._arrived.empty():
            raise ConsumerLostError("messages are ready, but none is delivered")
        if not queue.declaration_result.consumer_count:
            raise ConsumerLostError("the queue has no consumer any more")
        return not ready


@asynccontextmanager
async def _client_call(seconds: float | None = _RPC_SECONDS) -> AsyncIterator[None]:
    """Raise any error of the client as ConsumerLostError. They include RuntimeError, which elsewhere is a bug."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except (TimeoutError, *CONNECTION_EXCEPTIONS) as error:
        raise ConsumerLostError(error_reason(error)) from None


class _Batch:
    """The contents of several messages, for one transaction."""

    def __init__(self, trust: GatewayTrust) -> None:
        self._trust = trust
        self.deliveries: list[Delivery] = []
        self.dead_letters: list[DeadLetter] = []
        self.reports: list[OutboxStatus] = []
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._bytes = 0

    async def add(self, message: AbstractIncomingMessage) -> None:
        self._bytes += len(message.body)
        if message.routing_key == GATEWAY_STATE:
            await self._add_report(message)
            return
        if _DEATH_REASON in message.headers:
            queue, death = (str(message.headers.get(name))[:_LONGEST_LOGGED] for name in (_DEATH_QUEUE, _DEATH_REASON))
            self._dropped[queue, death] += 1
        try:
            read = EventMessage.read(message.content_type, message.headers, message.body)
        except BatchError as error:
            self._quarantine(message.body, f"not a batch of events: {error}")
            return
        except Exception as error:  # noqa: BLE001 - raised, it would end every recorder that gets the message
            _log.error("message_unreadable", error=type(error).__name__)
            self._quarantine(message.body, f"not a batch of events: reading it raised {type(error).__name__}")
            return
        objection = await self._trust.examine(read.claim, message.headers)
        if objection is None:
            self.deliveries += read.deliveries
        else:
            self.dead_letters.append(read.unproven(objection))

    @property
    def is_full(self) -> bool:
        """True if it is large enough for a transaction."""
        return len(self.deliveries) >= _EVENTS_PER_TRANSACTION or self._bytes >= _BYTES_PER_TRANSACTION

    @property
    def has_dropped(self) -> bool:
        """True if it has messages that the broker had dropped from their queue."""
        return bool(self._dropped)

    def log_dropped(self) -> None:
        """Log messages that the broker had dropped from their queue: a policy there loses them without a recorder."""
        for (queue, death), count in self._dropped.items():
            causes = _POLICIES.get(death, "a consumer that is not ours")
            _log.warning("broker_dropped_messages", queue=queue, messages=count, reason=death, cause=causes)

    def _quarantine(self, body: bytes, reason: str) -> None:
        self.dead_letters.append(DeadLetter("unreadable", reason, "", message_number(body), body, None))

    async def _add_report(self, message: AbstractIncomingMessage) -> None:
        """Add a report; nothing is lost without it, since the next one contains the same facts."""
        try:
            report = read_status(message.body)
        except EventError as error:
            _log.warning("gateway_state_unreadable", reason=str(error))
            return
        except Exception as error:  # noqa: BLE001 - as above
            _log.error("gateway_state_unreadable", reason=f"reading it raised {type(error).__name__}")
            return
        claim = Claim("status", report.state.gateway_id, 0, 0, message.body)
        if await self._trust.examine(claim, message.headers) is None:
            self.reports.append(report)
