"""What exists on the broker, as data, and the one place that declares it. Operators see these names.

The recorder declares; the gateway only publishes, and finds out by returned messages that nobody declared yet. So the
gateway's user needs to write to one exchange, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.events import PREDICTION_MADE
from shared.gateway_state import GATEWAY_STATE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aio_pika.abc import AbstractChannel, AbstractQueue
    from pamqp.common import FieldValue

_UNLIMITED_DELIVERIES = 1_000_000
"""A crash of a consumer counts as a delivery, so any small limit loses good messages; -1 drops at once before 4.0."""
_STATES_KEPT = 1000
"""Older ones are dropped where nobody takes them: a newer one says all that they said."""


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

    Raises:
        aio_pika.exceptions.AMQPError: something of that name exists and differs, or it is not allowed.

    """
    await _declare(channel, wanted.dead)
    return await _declare(channel, wanted.events), await _declare(channel, wanted.states)


async def _declare(channel: AbstractChannel, wanted: Queue) -> AbstractQueue:
    exchange = await channel.declare_exchange(wanted.exchange, "direct", durable=True)
    arguments: dict[str, FieldValue] = {"x-queue-type": "quorum", **wanted.arguments}
    queue = await channel.declare_queue(wanted.name, durable=True, arguments=arguments)
    await queue.bind(exchange, wanted.routing_key)
    return queue
