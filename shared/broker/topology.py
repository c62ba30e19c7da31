"""What exists on the broker, as data, and the one place that declares it. Operators see these names.

The recorder declares; the gateway only publishes, and finds out by returned messages that nobody declared yet. So the
gateway's user needs to write to one exchange, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.contracts.events import PREDICTION_MADE
from shared.contracts.outbox_status import GATEWAY_STATE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aio_pika.abc import AbstractChannel, AbstractQueue
    from pamqp.common import FieldValue

_UNLIMITED_DELIVERIES = 1_000_000
"""A crash of a consumer counts as a delivery, so any small limit loses good messages; -1 drops at once before 4.0."""
_STATES_KEPT = 1000
"""Older ones are dropped where nobody takes them: a newer one says all that they said."""

SETTLE_SECONDS = 3
"""How long a declaration may take to reach the broker's disk; killed 1 second after one, it was there."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue and the durable direct exchange that feeds it."""

    exchange: str
    name: str
    routing_key: str
    arguments: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Topology:
    """The ways to a recorder: `events`, with what the broker itself gives up on in `dead`; and `states` of gateways.

    States have a queue of their own, so that a recorder that knows none of them meets none.
    """

    events: Queue
    dead: Queue
    states: Queue


def topology(prefix: str) -> Topology:
    """Name everything after `prefix`; several systems can so share one broker."""
    dead = Queue(f"{prefix}.dead", f"{prefix}.dead", PREDICTION_MADE)
    events = Queue(
        prefix,
        f"{prefix}.recorder",
        PREDICTION_MADE,
        {
            "x-delivery-limit": _UNLIMITED_DELIVERIES,
            "x-dead-letter-exchange": dead.exchange,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # the strategy needs it; a full queue refuses instead of dropping
        },
    )
    bounded: dict[str, str | int] = {"x-max-length": _STATES_KEPT, "x-overflow": "drop-head"}
    return Topology(events, dead, Queue(prefix, f"{prefix}.gateways", GATEWAY_STATE, bounded))


async def declare(channel: AbstractChannel, wanted: Topology) -> tuple[AbstractQueue, AbstractQueue]:
    """Make what is missing, check what is there, and return the queues of events and of states.

    A queue that is new takes nothing before `bind`.

    Raises:
        aio_pika.exceptions.AMQPError: something of that name exists and differs, or it is not allowed.

    """
    await _declare(channel, wanted.dead)
    return await _declare(channel, wanted.events), await _declare(channel, wanted.states)


async def bind(channel: AbstractChannel, wanted: Topology) -> None:
    """Let the declared queues be published to.

    A broker confirms what a new queue holds before it has the queue itself on disk: RabbitMQ 3.10, killed 0.7 seconds
    after a declaration, came back without the queue and the confirmed messages in it, or could not lead it any more.
    So a declaration needs `SETTLE_SECONDS` first; until then a publisher is told that nobody takes its message.

    Raises:
        aio_pika.exceptions.AMQPError: a queue or an exchange is gone, or it is not allowed.

    """
    for queue in (wanted.dead, wanted.events, wanted.states):
        bound = await channel.get_queue(queue.name, ensure=False)
        await bound.bind(queue.exchange, queue.routing_key)


async def _declare(channel: AbstractChannel, wanted: Queue) -> AbstractQueue:
    await channel.declare_exchange(wanted.exchange, "direct", durable=True)
    arguments: dict[str, FieldValue] = {"x-queue-type": "quorum", **wanted.arguments}
    return await channel.declare_queue(wanted.name, durable=True, arguments=arguments)
