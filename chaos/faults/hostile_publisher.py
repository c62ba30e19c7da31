"""A hostile publisher with a gateway's password: false events and states, most of them in the name of a real gateway.

It takes the names and numbers of gateways from their messages; a compromised gateway knows at least its own.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle

import aio_pika
import orjson
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError
from pamqp.common import FieldValue

from shared.broker.topology import Queue, Topology
from shared.contracts.event_batches import CONTENT_TYPE, split
from shared.contracts.events import Feedback, write_feedback
from shared.contracts.outbox_status import CONTENT_TYPE as STATE
from shared.contracts.outbox_status import OutboxStatus, write_status
from shared.contracts.transport import Delivery, OutboxState
from tests.support.recorder_suite import event

_ROUND_SECONDS = 10
_ABSURD = 2**63 - 2
FAR = 2**62
"""No gateway numbers so many events."""
_MANY = 5000
_INTRUDER = "intruder-"
_FUTURE = "9998-12-31T00:00:00+00:00"


@dataclass(frozen=True, slots=True)
class Genuine:
    """What a message of a real gateway shows: its id, its next `seq`, and the id of an event."""

    gateway_id: str
    next_seq: int
    event_id: str


@dataclass(frozen=True, slots=True)
class Hostile:
    """One message: a recorder may quarantine any of `aside`, and must not believe the events `false_ids`."""

    body: bytes
    aside: Sequence[bytes] = ()
    false_ids: Sequence[str] = ()
    content_type: str = STATE
    headers: Mapping[str, FieldValue] = field(default_factory=dict)


def _events(gateway_id: str, first: int, events: Sequence[bytes], *false_ids: str) -> Hostile:
    [batch] = split([Delivery(gateway_id, first + index, each) for index, each in enumerate(events)], len(events))
    return Hostile(batch.body, (batch.body, *events), false_ids, CONTENT_TYPE, dict(batch.headers))


def _status(gateway_id: str, counts: int) -> Hostile:
    return Hostile(write_status(OutboxStatus(OutboxState(gateway_id, counts, counts), datetime.now(UTC))))


def _next_number(genuine: Genuine, _: int) -> Hostile:
    return _events(genuine.gateway_id, genuine.next_seq, [b"\xff%d" % genuine.next_seq])


def _far_number(genuine: Genuine, number: int) -> Hostile:
    false_id = str(uuid.uuid4())
    return _events(genuine.gateway_id, FAR + number, [event(event_id=false_id)], false_id)


def _future_feedback(genuine: Genuine, number: int) -> Hostile:
    false_id = str(uuid.uuid4())
    feedback = Feedback(prediccion=genuine.event_id, aceptada=False, diagnostico="hipotiroidismo", motivo=None)
    body = write_feedback(event_id=false_id, source="/gateway", time=_FUTURE, feedback=feedback)
    return _events(genuine.gateway_id, FAR + number, [body], false_id)


KINDS: Mapping[str, Callable[[Genuine, int], Hostile]] = {
    "other bytes under the next number": _next_number,
    "an event under an absurd number": _far_number,
    "feedback of the future": _future_feedback,
    "too many events": lambda _, number: _events(f"{_INTRUDER}{number}", 1, [b"{}"] * _MANY),
    "absurd counts": lambda genuine, _: _status(genuine.gateway_id, _ABSURD),
    "counts of an unknown gateway": lambda _, number: _status(f"{_INTRUDER}{number}", 1000),
}
"""The function that makes each kind, by its name, from a genuine message and a number of its own."""


class HostilePublisher:
    """Publishes every kind in turn, through every restart of the broker; `sent` may have reached it."""

    def __init__(self, url: str, wanted: Topology, *, pause_seconds: float) -> None:
        """Publish one message every `pause_seconds` while gateways publish."""
        self._url, self._topology, self._pause = url, wanted, pause_seconds
        self.sent: list[Hostile] = []
        self.kinds: Counter[str] = Counter()

    async def run(self) -> None:
        """Publish until cancelled."""
        for number, kind in enumerate(cycle(KINDS), 1):
            if await self._published(kind, number):
                self.kinds[kind] += 1
            await asyncio.sleep(self._pause)

    async def _published(self, kind: str, number: int) -> bool:
        """Return whether the broker confirmed the message `number`, of `kind`."""
        with suppress(TimeoutError, DeliveryError, *CONNECTION_EXCEPTIONS):
            async with asyncio.timeout(_ROUND_SECONDS), await aio_pika.connect(self._url) as connection:
                hostile = KINDS[kind](await self._seen(connection), number)
                self.sent.append(hostile)
                queue = self._topology.states if hostile.content_type == STATE else self._topology.events
                await self._publish(connection, hostile, queue)
                return True
        return False

    async def _publish(self, connection: AbstractConnection, hostile: Hostile, queue: Queue) -> None:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange(queue.exchange, ensure=False)
        message = aio_pika.Message(
            hostile.body,
            headers=dict(hostile.headers),
            content_type=hostile.content_type,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await exchange.publish(message, queue.routing_key)

    async def _seen(self, connection: AbstractConnection) -> Genuine:
        """Return what the next good message of a gateway shows."""
        channel = await connection.channel()
        copies = await channel.declare_queue(exclusive=True)
        await copies.bind(self._topology.events.exchange, self._topology.events.routing_key)
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await copies.consume(arrived.put, no_ack=True)
        while True:
            if (genuine := _read(await arrived.get())) is not None:
                return genuine


def _read(message: AbstractIncomingMessage) -> Genuine | None:
    gateway_id, first, events = (message.headers.get(name) for name in ("gateway-id", "first-seq", "events"))
    # No gateway sets an app-id; the publisher of poison does.
    if message.app_id or not (isinstance(gateway_id, str) and isinstance(first, int) and isinstance(events, int)):
        return None
    try:
        return Genuine(gateway_id, first + events, orjson.loads(message.body)[0]["id"])
    except (orjson.JSONDecodeError, LookupError, TypeError):  # its own, or a second delivery of poison
        return None
