"""The exchanges and queues on the broker, as data, and their declaration. Operators see these names.

The recorder declares them. The gateway only publishes: a returned message means that they are not declared yet. So
the gateway's user needs no right but to write to one exchange.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aio_pika.abc import AbstractChannel, AbstractQueue
from pamqp.common import FieldValue

from shared.contracts.events import PREDICTION_MADE
from shared.contracts.outbox_status import GATEWAY_STATE

_UNLIMITED_DELIVERIES = 1_000_000
"""A crash of a consumer counts as a delivery, so any small limit loses good messages; -1 drops at once before 4.0."""
_STATES_KEPT = 1000
"""Beyond this number the oldest status is dropped: a newer status supersedes it."""

SETTLE_SECONDS = 3
"""How long a declaration may take to reach the broker's disk; a broker killed 1 second after one still had it."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue and the durable direct exchange that feeds it."""

    exchange: str
    name: str
    routing_key: str
    arguments: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Topology:
    """The queues of a recorder: `events`, with the broker's own dead letters in `dead`; and `states` of outboxes.

    States have a queue of their own, so that a recorder that does not know them never receives one.
    """

    events: Queue
    dead: Queue
    states: Queue


def topology(prefix: str) -> Topology:
    """Return the topology with names that begin with `prefix`, so that several systems can share one broker."""
    dead = Queue(f"{prefix}.dead", f"{prefix}.dead", PREDICTION_MADE)
    events = Queue(
        prefix,
        f"{prefix}.recorder",
        PREDICTION_MADE,
        {
            "x-delivery-limit": _UNLIMITED_DELIVERIES,
            "x-dead-letter-exchange": dead.exchange,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # the strategy needs it; a full queue rejects instead of dropping
        },
    )
    bounded: dict[str, str | int] = {"x-max-length": _STATES_KEPT, "x-overflow": "drop-head"}
    return Topology(events, dead, Queue(prefix, f"{prefix}.gateways", GATEWAY_STATE, bounded))


async def declare(channel: AbstractChannel, wanted: Topology) -> tuple[AbstractQueue, AbstractQueue]:
    """Create missing exchanges and queues, check existing ones, and return the queues of events and of states.

    A new queue receives nothing before `bind`.

    Raises:
        aio_pika.exceptions.AMQPError: one of that name exists with other arguments, or the user lacks the right.

    """
    await _declare(channel, wanted.dead)
    return await _declare(channel, wanted.events), await _declare(channel, wanted.states)


async def bind(channel: AbstractChannel, wanted: Topology) -> None:
    """Bind the declared queues to their exchanges.

    A broker confirms messages of a new queue before the queue itself is on disk: RabbitMQ 3.10, killed 0.7 seconds
    after a declaration, came back without the queue and its confirmed messages, or the queue had no leader. So wait
    `SETTLE_SECONDS` after a declaration; until then the broker returns messages to their publisher.

    Raises:
        aio_pika.exceptions.AMQPError: a queue or an exchange is gone, or the user lacks the right.

    """
    for queue in (wanted.dead, wanted.events, wanted.states):
        bound = await channel.get_queue(queue.name, ensure=False)
        await bound.bind(queue.exchange, queue.routing_key)


async def _declare(channel: AbstractChannel, wanted: Queue) -> AbstractQueue:
    await channel.declare_exchange(wanted.exchange, "direct", durable=True)
    arguments: dict[str, FieldValue] = {"x-queue-type": "quorum", **wanted.arguments}
    return await channel.declare_queue(wanted.name, durable=True, arguments=arguments)
