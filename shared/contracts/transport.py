"""How answers leave a gateway: the outbox's segments on one side, whoever keeps them on the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class TransportDownError(Exception):
    """Nothing can be handed over now; try again later. The message says why, for operators."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way: `seq` counts what `gateway_id` answered, from 1, without gaps; `body` is the event."""

    gateway_id: str
    seq: int
    body: bytes


class Transport(Protocol):
    """Takes deliveries over: a broker that confirms, or the recorder in the same process."""

    async def publish(self, batch: Sequence[Delivery]) -> set[int]:
        """Hand over `batch`; returns the `seq` of those that are now durable elsewhere.

        What is not in the answer is unknown and is published again: the recorder absorbs duplicates.

        Raises:
            TransportDownError: nothing was taken over.

        """


@dataclass(frozen=True, slots=True)
class OutboxState:
    """One gateway's own account: `answered` is its last `seq`; every `seq` below `oldest_pending` has left it."""

    gateway_id: str
    answered: int
    oldest_pending: int
