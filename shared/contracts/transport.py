"""The transport: the protocol by which events leave a gateway's outbox for the broker or the recorder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class TransportDownError(Exception):
    """Nothing can be handed over now; retry later. The message is the reason, for operators."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event in transit. `seq` counts the answers of `gateway_id` from 1 without gaps; `body` is the event."""

    gateway_id: str
    seq: int
    body: bytes


class Transport(Protocol):
    """A receiver of deliveries: a broker that confirms, or the recorder in the same process."""

    async def publish(self, batch: Sequence[Delivery]) -> set[int]:
        """Hand over `batch`; return the `seq` of the deliveries that are durable elsewhere now.

        The fate of the others is unknown. They are published again: the recorder absorbs duplicates.

        Raises:
            TransportDownError: nothing was handed over.

        """


@dataclass(frozen=True, slots=True)
class OutboxState:
    """The state of a gateway's outbox: `answered` is its last `seq`; every `seq` below `oldest_pending` has left it.

    `replaced`: its gateway numbers events by another id now, and none of this id is left in the outbox.
    """

    gateway_id: str
    answered: int
    oldest_pending: int
    replaced: bool = False
