"""The exchanges and queues on the broker, as data, and their declaration. Operators see these names.

The recorder declares them. The gateway only publishes: a returned message means that they are not declared yet. So
the gateway's user needs no right but to write to one exchange.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.common import FieldValue

from shared.broker.settings import reason
from shared.contracts.events import PREDICTION_MADE
from shared.contracts.outbox_status import GATEWAY_STATE

_UNLIMITED_DELIVERIES = {"x-delivery-limit": 1_000_000}
"""A crash or a closed connection of a consumer counts as a delivery, so any small limit loses good messages.

Without a limit of its own, a quorum queue of RabbitMQ 4 drops a message after 20. -1 drops at once before 4.0.
"""
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

    States have a queue of their own, so that a recorder that does not know them never receives one. `former_dead` is
    the name of the queue that version 0.1.0 declared for dead letters, without a delivery limit. Arguments of a queue
    cannot be changed, so `dead` took over.
    """

    events: Queue
    dead: Queue
    states: Queue
    former_dead: str


def topology(prefix: str) -> Topology:
    """Return the topology with names that begin with `prefix`, so that several systems can share one broker."""
    former_dead = f"{prefix}.dead"
    dead = Queue(f"{prefix}.dead", f"{prefix}.dead-letters", PREDICTION_MADE, _UNLIMITED_DELIVERIES)
    events = Queue(
        prefix,
        f"{prefix}.recorder",
        PREDICTION_MADE,
        {
            **_UNLIMITED_DELIVERIES,
            "x-dead-letter-exchange": dead.exchange,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # the strategy needs it; a full queue rejects instead of dropping
        },
    )
    # No delivery limit: the next status replaces one that RabbitMQ 4 drops, and new arguments would need a new name.
    bounded: dict[str, str | int] = {"x-max-length": _STATES_KEPT, "x-overflow": "drop-head"}
    return Topology(events, dead, Queue(prefix, f"{prefix}.gateways", GATEWAY_STATE, bounded), former_dead)


async def declare(connection: AbstractConnection, wanted: Topology) -> dict[str, str]:
    """Create missing exchanges and queues; return the broker's reason for each queue that exists with other arguments.

    Such a queue serves as it is: not to consume it would keep what it holds, and what still arrives, from the database.
    A new queue receives nothing before `bind`.

    Raises:
        aio_pika.exceptions.AMQPError: the user lacks the right, or the connection is lost.

    """
    differences = {}
    for queue in (wanted.dead, wanted.events, wanted.states):
        channel = await connection.channel()  # the broker closes it after an error
        try:
            await channel.declare_exchange(queue.exchange, "direct", durable=True)
            arguments: dict[str, FieldValue] = {"x-queue-type": "quorum", **queue.arguments}
            await channel.declare_queue(queue.name, durable=True, arguments=arguments)
        except ChannelPreconditionFailed as error:
            differences[queue.name] = reason(error)
        finally:
            await channel.close()
    return differences


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


async def unbind_former(connection: AbstractConnection, wanted: Topology) -> bool:
    """Unbind the queue of dead letters of version 0.1.0 if it exists; return whether it does.

    Its messages stay in it. Call this after `bind`, so that dead letters always have a queue.

    Raises:
        aio_pika.exceptions.AMQPError: the user lacks the right, or the connection is lost.

    """
    channel = await connection.channel()
    try:
        former = await channel.declare_queue(wanted.former_dead, passive=True)
        await former.unbind(wanted.dead.exchange, wanted.dead.routing_key)
    except ChannelNotFoundEntity:
        return False
    else:
        return True
    finally:
        await channel.close()
