"""Many events in one AMQP message: CloudEvents' batched content mode, one event per line.

The body is a JSON array, so that any reader of CloudEvents can parse it. Each event has a line of its own (an event
never contains a line break), so our reader splits the body without parsing it, and an event that is not JSON
affects only itself. The headers carry the gateway, the first `seq` and the number of events.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shared.contracts.transport import Delivery

CONTENT_TYPE = "application/cloudevents-batch+json"
_GATEWAY, _FIRST, _EVENTS = "gateway-id", "first-seq", "events"
HEADERS = (_GATEWAY, _FIRST, _EVENTS)
"""Names of the headers of a batch, besides those of its proof (`gateway_proof`)."""
LARGEST_SEQ = 10**15
"""Answers of one gateway: 10,000 a second for 3,000 years."""
MOST_EVENTS = 1000
"""Events that are read in one message; a gateway sends 200 at most."""
LARGEST_BODY = 8 << 20
"""Bytes that are read of one message, and that a gateway puts into one; RabbitMQ 4 takes twice as many by default."""
_SEPARATOR = b",\n"
GATEWAY_ID = "[!-~]{1,200}"
"""Pattern of a gateway's name; not every database stores every character."""


class BatchError(Exception):
    """A message that is not a batch. The message is the reason, without the content."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Headers and body of one message, the `seq` of its events, and their gateway."""

    headers: dict[str, str | int]
    body: bytes
    seqs: range
    gateway_id: str


def split(deliveries: Sequence[Delivery], most_events: int, most_bytes: int = LARGEST_BODY) -> Iterator[Batch]:
    """Pack `deliveries` of one gateway into messages of at most `most_events` consecutive `seq` and `most_bytes` each.

    An event that alone is longer gets a message of its own.
    """
    start = size = 0
    for end, delivery in enumerate(deliveries):
        size += len(delivery.body) + len(_SEPARATOR)
        if start < end and (
            end - start == most_events or size > most_bytes or delivery.seq != deliveries[end - 1].seq + 1
        ):
            yield _pack(deliveries[start:end])
            start, size = end, len(delivery.body) + len(_SEPARATOR)
    if deliveries:
        yield _pack(deliveries[start:])


def unpack(content_type: str | None, headers: Mapping[str, object], body: bytes) -> list[Delivery]:
    """Split a message into its deliveries. Events are not parsed here: each is parsed by itself later.

    Raises:
        BatchError: it is not a batch, not complete, or beyond `MOST_EVENTS` or `LARGEST_BODY`.

    """
    gateway_id, first, count = (headers.get(name) for name in (_GATEWAY, _FIRST, _EVENTS))
    if content_type != CONTENT_TYPE:
        raise BatchError(f"not of type {CONTENT_TYPE}")
    if len(body) > LARGEST_BODY:
        raise BatchError(f"longer than {LARGEST_BODY} bytes")
    if not (isinstance(gateway_id, str) and gateway_id and type(first) is type(count) is int):  # True is an int, too
        raise BatchError(f"without the headers {_GATEWAY}, {_FIRST} and {_EVENTS}")
    if not re.fullmatch(GATEWAY_ID, gateway_id):
        raise BatchError(f"its {_GATEWAY} is not a gateway's name")
    if first < 1 or first + count > LARGEST_SEQ:
        raise BatchError(f"its {_FIRST} is out of range")
    if not (body.startswith(b"[") and body.endswith(b"]")):
        raise BatchError("not a JSON array")
    if count > MOST_EVENTS:
        raise BatchError(f"more than {MOST_EVENTS} events")
    if body.count(_SEPARATOR) + 1 != count:
        raise BatchError(f"its number of events, one a line, is not that of its header {_EVENTS}")
    return [Delivery(gateway_id, first + index, event) for index, event in enumerate(body[1:-1].split(_SEPARATOR))]


def _pack(deliveries: Sequence[Delivery]) -> Batch:
    first = deliveries[0]
    headers: dict[str, str | int] = {_GATEWAY: first.gateway_id, _FIRST: first.seq, _EVENTS: len(deliveries)}
    body = b"[" + _SEPARATOR.join(delivery.body for delivery in deliveries) + b"]"
    return Batch(headers, body, range(first.seq, first.seq + len(deliveries)), first.gateway_id)
