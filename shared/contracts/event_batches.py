"""Many events in one AMQP message: CloudEvents' batched content mode, one event per line.

The body is a JSON array, so that any reader of CloudEvents understands it; each event stands on a line of its own (an
event never contains a line break), so that ours takes it byte by byte as it was written, and one event that is no JSON
spoils only itself. The headers give the account: who answered, the first number, and how many.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contracts.transport import Delivery

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CONTENT_TYPE = "application/cloudevents-batch+json"
_GATEWAY, _FIRST, _EVENTS = "gateway-id", "first-seq", "events"
_LARGEST_SEQ = 2**63 - 1
GATEWAY_ID = "[!-~]{1,200}"
"""What a gateway may be called; not every database takes every character of a text."""


class BatchError(Exception):
    """A message that is no batch; says why without its content."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Headers and body of one message, and the numbers of its events."""

    headers: dict[str, str | int]
    body: bytes
    seqs: range


def split(deliveries: Sequence[Delivery], most_events: int) -> Iterator[Batch]:
    """Pack `deliveries` of one gateway into messages of at most `most_events` with consecutive numbers."""
    start = 0
    for end in range(1, len(deliveries) + 1):
        full = end - start == most_events
        if end == len(deliveries) or full or deliveries[end].seq != deliveries[end - 1].seq + 1:
            yield _pack(deliveries[start:end])
            start = end


def unpack(content_type: str | None, headers: Mapping[str, object], body: bytes) -> list[Delivery]:
    """Take a message apart again. Events are not looked into: each is judged by itself, later.

    Raises:
        BatchError: it is no batch, or not whole.

    """
    gateway_id, first, count = (headers.get(name) for name in (_GATEWAY, _FIRST, _EVENTS))
    if content_type != CONTENT_TYPE:
        raise BatchError(f"not of type {CONTENT_TYPE}")
    if not (isinstance(gateway_id, str) and gateway_id and isinstance(first, int) and isinstance(count, int)):
        raise BatchError(f"without the headers {_GATEWAY}, {_FIRST} and {_EVENTS}")
    if not re.fullmatch(GATEWAY_ID, gateway_id):
        raise BatchError(f"its {_GATEWAY} is no name of a gateway")
    if first < 1 or first + count > _LARGEST_SEQ:
        raise BatchError(f"its {_FIRST} is out of range")
    if not (body.startswith(b"[") and body.endswith(b"]")):
        raise BatchError("not a JSON array")
    events = body[1:-1].split(b",\n")
    if len(events) != count:
        raise BatchError(f"it has not as many events, one a line, as its header {_EVENTS} says")
    return [Delivery(gateway_id, first + place, event) for place, event in enumerate(events)]


def _pack(deliveries: Sequence[Delivery]) -> Batch:
    first = deliveries[0]
    headers: dict[str, str | int] = {_GATEWAY: first.gateway_id, _FIRST: first.seq, _EVENTS: len(deliveries)}
    body = b"[" + b",\n".join(delivery.body for delivery in deliveries) + b"]"
    return Batch(headers, body, range(first.seq, first.seq + len(deliveries)))
