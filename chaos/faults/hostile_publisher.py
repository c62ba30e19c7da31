"""A hostile publisher with all that a compromised gateway has: the broker's password, a key of its own, the secret.

It forges messages in the name of a real gateway, whose ids and numbers it takes from messages of that gateway, and
signs false ones in its own name.
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

from chaos.faults.foreign_publisher import connected
from shared.broker.topology import Topology
from shared.contracts.event_batches import CONTENT_TYPE, LARGEST_SEQ, MOST_EVENTS, split
from shared.contracts.events import Feedback, write_feedback
from shared.contracts.gateway_proof import Claim, GatewayKey
from shared.contracts.outbox_status import CONTENT_TYPE as STATE
from shared.contracts.outbox_status import OutboxStatus, write_status
from shared.contracts.transport import Delivery, OutboxState
from tests.support.recorder_suite import event

_ROUND_SECONDS = 10
_AGAIN_SECONDS = 0.5
_APP = "hostile"
"""Marks its messages, as the publisher of poison does: no gateway sets an app-id."""
FAR = LARGEST_SEQ // 2
"""No gateway numbers so many events."""
_MANY = "too many events"
_FUTURE = "9998-12-31T00:00:00+00:00"


@dataclass(frozen=True, slots=True)
class Genuine:
    """What a message of a real gateway shows: its id, its next `seq`, the id of an event, and the whole message."""

    gateway_id: str
    next_seq: int
    event_id: str
    body: bytes
    headers: Mapping[str, FieldValue]


@dataclass(frozen=True, slots=True)
class Hostile:
    """One message: `aside` are the bytes that a recorder quarantines, `false_ids` the events that it must not record.

    `own_ids` are events that the publisher makes up in its own name, as nothing prevents.
    """

    body: bytes
    aside: Sequence[bytes] = ()
    false_ids: Sequence[str] = ()
    own_ids: Sequence[str] = ()
    content_type: str = CONTENT_TYPE
    headers: Mapping[str, FieldValue] = field(default_factory=dict)


class Forger:
    """Makes false messages, with the key of a gateway that was enrolled by the `secret`."""

    def __init__(self, secret: bytes) -> None:
        """Make a key."""
        self._key, self._secret = GatewayKey.generate(), secret

    @property
    def gateway_id(self) -> str:
        """The id of its own gateway."""
        return self._key.gateway_id

    def make(self, kind: str, genuine: Genuine, number: int) -> Hostile:
        """Return one message of `kind`, one of `KINDS`; `number` is that of no other message."""
        return KINDS[kind](self, genuine, number)

    def other_bytes(self, genuine: Genuine, _: int) -> Hostile:
        """Return an unreadable event as the next one of the real gateway, without a proof."""
        body, headers = _packed(genuine.gateway_id, genuine.next_seq, [b"\xff%d" % genuine.next_seq])
        return Hostile(body, [body], headers=headers)

    def false_answer(self, genuine: Genuine, _: int) -> Hostile:
        """Return an answer as the next one of the real gateway, with the proof of its own."""
        false_id = str(uuid.uuid4())
        body, headers = _packed(genuine.gateway_id, genuine.next_seq, [event(event_id=false_id)])
        proof = self._proof(Claim("events", genuine.gateway_id, genuine.next_seq, 1, body))
        return Hostile(body, [body], [false_id], headers={**headers, **proof})

    def other_numbers(self, genuine: Genuine, number: int) -> Hostile:
        """Return a message of the real gateway with its proof, under other numbers."""
        return Hostile(genuine.body, [genuine.body], headers={**genuine.headers, "first-seq": FAR + number})

    def counts_of_another(self, genuine: Genuine, _: int) -> Hostile:
        """Return a report of absurd counts in the name of the real gateway, with the proof of its own."""
        return self._report(genuine.gateway_id, self._key)

    def counts_of_an_unknown(self, _: Genuine, __: int) -> Hostile:
        """Return a report that a gateway without an enrolment signed."""
        stranger = GatewayKey.generate()
        return self._report(stranger.gateway_id, stranger, token=False)

    def own_absurd_number(self, _: Genuine, number: int) -> Hostile:
        """Return an answer in its own name under a number that its rows do not support."""
        own_id = str(uuid.uuid4())
        return self._signed(FAR + number, [event(event_id=own_id)], own_ids=[own_id])

    def own_future_feedback(self, genuine: Genuine, number: int) -> Hostile:
        """Return feedback on an answer of the real gateway, dated so that no later one would count."""
        false_id = str(uuid.uuid4())
        feedback = Feedback(prediccion=genuine.event_id, aceptada=False, diagnostico="hipotiroidismo", motivo=None)
        body = write_feedback(event_id=false_id, source="/gateway", time=_FUTURE, feedback=feedback)
        return self._signed(FAR + number, [body], aside=[body], false_ids=[false_id])

    def own_many(self) -> Hostile:
        """Return more events of its own than a message may have."""
        hostile = self._signed(1, [b"{}"] * (MOST_EVENTS + 1))
        return Hostile(hostile.body, [hostile.body], headers=hostile.headers)

    def own_counts(self, _: Genuine, __: int) -> Hostile:
        """Return a report of its own with absurd counts."""
        return self._report(self.gateway_id, self._key)

    def _signed(
        self,
        first: int,
        events: Sequence[bytes],
        aside: Sequence[bytes] = (),
        false_ids: Sequence[str] = (),
        own_ids: Sequence[str] = (),
    ) -> Hostile:
        body, headers = _packed(self.gateway_id, first, events)
        proof = self._proof(Claim("events", self.gateway_id, first, len(events), body))
        return Hostile(body, aside, false_ids, own_ids, headers={**headers, **proof})

    def _report(self, gateway_id: str, key: GatewayKey, *, token: bool = True) -> Hostile:
        body = write_status(OutboxStatus(OutboxState(gateway_id, FAR, FAR), datetime.now(UTC)))
        proof = key.proof(Claim("status", gateway_id, 0, 0, body), self._secret if token else None)
        return Hostile(body, content_type=STATE, headers=dict(proof))

    def _proof(self, claim: Claim) -> dict[str, str]:
        return self._key.proof(claim, self._secret)


def _packed(gateway_id: str, first: int, events: Sequence[bytes]) -> tuple[bytes, Mapping[str, FieldValue]]:
    [batch] = split([Delivery(gateway_id, first + index, each) for index, each in enumerate(events)], len(events))
    return batch.body, batch.headers


KINDS: Mapping[str, Callable[[Forger, Genuine, int], Hostile]] = {
    "other bytes under the next number": Forger.other_bytes,
    "an answer in the name of another": Forger.false_answer,
    "a genuine message under other numbers": Forger.other_numbers,
    "absurd counts of another": Forger.counts_of_another,
    "counts of an unknown gateway": Forger.counts_of_an_unknown,
    "an absurd number of its own": Forger.own_absurd_number,
    "feedback of the future": Forger.own_future_feedback,
    _MANY: lambda forger, *_: forger.own_many(),
    "absurd counts of its own": Forger.own_counts,
}
"""The method that makes each kind, by its name."""


class HostilePublisher:
    """Publishes every kind in turn, through every restart of the broker.

    Messages in `sent` may have reached it, those in `confirmed` did.
    """

    def __init__(self, url: str, wanted: Topology, secret: bytes, *, pause_seconds: float) -> None:
        """Publish one message every `pause_seconds` while gateways publish; its gateway is enrolled by `secret`."""
        self._url, self._topology, self._pause = url, wanted, pause_seconds
        self._forger, self._order = Forger(secret), enumerate(cycle(KINDS), 1)
        self.sent: list[Hostile] = []
        self.confirmed: list[Hostile] = []
        self.kinds: Counter[str] = Counter()

    @property
    def gateway_id(self) -> str:
        """The id of its own gateway."""
        return self._forger.gateway_id

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            with suppress(TimeoutError, DeliveryError, *CONNECTION_EXCEPTIONS):
                async with connected(self._url) as connection:
                    # Confirmed: the recorder's queue is bound, so that no answer goes to a queue of ours alone.
                    await self._send(connection, _MANY, self._forger.own_many())
                    for number, kind in self._order:
                        genuine = await self._seen(connection)
                        await self._send(connection, kind, self._forger.make(kind, genuine, number))
                        await asyncio.sleep(self._pause)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _send(self, connection: AbstractConnection, kind: str, hostile: Hostile) -> None:
        self.sent.append(hostile)
        async with asyncio.timeout(_ROUND_SECONDS):
            await self._publish(connection, hostile)
        self.confirmed.append(hostile)
        self.kinds[kind] += 1

    async def _publish(self, connection: AbstractConnection, hostile: Hostile) -> None:
        queue = self._topology.states if hostile.content_type == STATE else self._topology.events
        message = aio_pika.Message(
            hostile.body,
            headers=dict(hostile.headers),
            content_type=hostile.content_type,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            app_id=_APP,
        )
        async with connection.channel(on_return_raises=True) as channel:
            exchange = await channel.get_exchange(queue.exchange, ensure=False)
            await exchange.publish(message, queue.routing_key)

    async def _seen(self, connection: AbstractConnection) -> Genuine:
        """Return what the next good message of a gateway shows."""
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        async with asyncio.timeout(_ROUND_SECONDS), connection.channel() as channel:
            copies = await channel.declare_queue(exclusive=True, auto_delete=True)
            await copies.bind(self._topology.events.exchange, self._topology.events.routing_key)
            await copies.consume(arrived.put, no_ack=True)
            while True:
                if (genuine := _read(await arrived.get())) is not None:
                    return genuine


def _read(message: AbstractIncomingMessage) -> Genuine | None:
    gateway_id, first, events = (message.headers.get(name) for name in ("gateway-id", "first-seq", "events"))
    if message.app_id or not (isinstance(gateway_id, str) and isinstance(first, int) and isinstance(events, int)):
        return None
    try:
        event_id = orjson.loads(message.body)[0]["id"]
    except (orjson.JSONDecodeError, LookupError, TypeError):  # its own, or a second delivery of poison
        return None
    return Genuine(gateway_id, first + events, event_id, message.body, dict(message.headers))
