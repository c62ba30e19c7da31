"""Transport to RabbitMQ: persistent, mandatory and confirmed messages, several in flight.

There is no background task: the relay calls again with growing waits, and each call connects if necessary. The
connection is a plain one: a robust one waits for its reconnect outside every timeout.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError
from pamqp.commands import Basic

from services.gateway.outbox.signer import Signer
from shared.broker.settings import reason
from shared.broker.topology import Topology
from shared.contracts.event_batches import CONTENT_TYPE, Batch, split
from shared.contracts.gateway_proof import Claim
from shared.contracts.outbox_status import CONTENT_TYPE as STATE
from shared.contracts.outbox_status import OutboxStatus, write_status
from shared.contracts.transport import Delivery, OutboxState, TransportDownError
from shared.failpoints import failpoint

EVENTS_PER_MESSAGE = 200
_CONNECT_SECONDS = 5
_CLOSE_SECONDS = 2
_UNBLOCK_SECONDS = 0.05
_NOT_CONFIRMED = "the broker did not confirm in time"
_log = structlog.get_logger()


class BrokerTransport:
    """A `Transport`; an event is durable once a quorum of the broker's nodes has its message on disk."""

    def __init__(self, url: str, names: Topology, signer: Signer, *, confirm_seconds: float) -> None:
        """Publish at `url`, with proofs of `signer`; a confirmation may take `confirm_seconds`."""
        self._url, self._topology, self._signer, self._confirm_seconds = url, names, signer, confirm_seconds
        self._connecting = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    async def publish(self, batch: Sequence[Delivery]) -> set[int]:
        """Publish `batch`, many events per message; return the `seq` of the events in confirmed messages.

        Raises:
            TransportDownError: not connected, blocked by an alarm of the broker, or nothing confirmed in time.

        """
        channel = await self._ready()
        messages = list(split(batch, EVENTS_PER_MESSAGE))
        failures: list[str] = []
        durable: set[int] = set()
        results = await asyncio.gather(*(self._confirmed(channel, message) for message in messages))
        for message, failure in zip(messages, results, strict=True):
            if failure is None:
                durable.update(message.seqs)
            else:
                failures.append(failure)
        if failures and not await self._is_blocked():
            await self.aclose()  # unconfirmed messages have an unknown result; they are published again on another
        if not durable:
            raise TransportDownError(failures[0])
        return durable

    async def report(self, state: OutboxState) -> None:
        """Publish the outbox's status. It may get lost: the next report replaces it.

        Raises:
            TransportDownError: it cannot be published now.

        """
        channel, states = await self._ready(), self._topology.states
        body = write_status(OutboxStatus(state, datetime.now(UTC)))
        proof = self._signer.proof(Claim("status", state.gateway_id, 0, 0, body))
        message = aio_pika.Message(body, headers={**proof}, content_type=STATE, message_id=uuid.uuid4().hex)
        try:
            async with _closed_is_an_error(), asyncio.timeout(self._confirm_seconds):
                exchange = await channel.get_exchange(states.exchange, ensure=False)
                # Not mandatory: an older recorder has no queue for reports.
                await exchange.publish(message, states.routing_key, mandatory=False)
        except (TimeoutError, DeliveryError, *CONNECTION_EXCEPTIONS) as error:
            raise TransportDownError(reason(error)) from None

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection, self._channel = self._connection, None, None
        await _close(connection)

    async def _ready(self) -> AbstractChannel:
        async with self._connecting:  # a batch and a report may need it at once
            return await self._connected()

    async def _connected(self) -> AbstractChannel:
        if self._channel is not None and not self._channel.is_closed:
            if await self._is_blocked():
                raise TransportDownError("the broker accepts nothing: one of its alarms, disk or memory, is on")
            return self._channel
        await self.aclose()
        connection: AbstractConnection | None = None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                connection = await aio_pika.connect(self._url)
                channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        except (TimeoutError, *CONNECTION_EXCEPTIONS) as error:
            await _close(connection)
            raise TransportDownError(f"the broker cannot be reached: {reason(error)}") from None
        self._connection, self._channel = connection, channel
        _log.info("broker_connected")
        return channel

    async def _is_blocked(self) -> bool:
        """Return whether the broker blocks publishing; it notifies only connections that have published."""
        if self._connection is None or self._connection.is_closed or self._connection.transport is None:
            return False
        try:
            async with asyncio.timeout(_UNBLOCK_SECONDS):
                await self._connection.transport.ready()
        except TimeoutError:
            return True
        return False

    async def _confirmed(self, channel: AbstractChannel, batch: Batch) -> str | None:
        """Publish one message; return why it may not be durable, or None if it is."""
        events = self._topology.events
        claim = Claim("events", batch.gateway_id, batch.seqs.start, len(batch.seqs), batch.body)
        message = aio_pika.Message(
            batch.body,
            headers={**batch.headers, **self._signer.proof(claim)},
            content_type=CONTENT_TYPE,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=uuid.uuid4().hex,  # per attempt: with one id twice in flight the client swaps their results
        )
        try:
            async with _closed_is_an_error(), asyncio.timeout(self._confirm_seconds):
                exchange = await channel.get_exchange(events.exchange, ensure=False)
                failpoint("broker.publish")
                confirmation = await exchange.publish(message, events.routing_key, mandatory=True)
                failpoint("broker.published")
        except TimeoutError:
            return _NOT_CONFIRMED
        except DeliveryError:
            return "the broker has no queue for it, or rejected it: has the recorder started?"
        except CONNECTION_EXCEPTIONS as error:
            return f"the broker did not accept it: {reason(error)}"
        return None if isinstance(confirmation, Basic.Ack) else _NOT_CONFIRMED


@asynccontextmanager
async def _closed_is_an_error() -> AsyncIterator[None]:
    """Raise ConnectionError where the client cancels a wait for a confirmation because the connection closes.

    The CancelledError would end the waiting task silently, as if the task itself were cancelled.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the connection was closed") from None


async def _close(connection: AbstractConnection | None) -> None:
    if connection is not None:
        with suppress(TimeoutError, *CONNECTION_EXCEPTIONS):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await connection.close()
