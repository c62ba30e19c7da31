"""Messages of gateways: their events if they are believed, or a dead letter with all that a later replay needs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import orjson

from services.recorder.ingest.parsing import DeadLetter
from shared.contracts import event_batches, gateway_proof
from shared.contracts.event_batches import unpack
from shared.contracts.gateway_proof import Claim
from shared.contracts.transport import Delivery

_LONGEST_HEADER = 400
"""Characters; longer ones are no gateway's."""
_HEADERS = (*event_batches.HEADERS, *gateway_proof.HEADERS)
"""The broker adds others, which change at every redelivery."""
_CONTENT_TYPE = "content-type"


@dataclass(frozen=True, slots=True)
class EventMessage:
    """A message of events: what it claims, and the headers that may prove it."""

    claim: Claim
    headers: Mapping[str, object]
    content_type: str
    deliveries: Sequence[Delivery]

    @classmethod
    def read(cls, content_type: str | None, headers: Mapping[str, object], body: bytes) -> Self:
        """Parse a message.

        Raises:
            BatchError: it is not a batch of events.

        """
        deliveries = unpack(content_type, headers, body)
        first = deliveries[0]
        claim = Claim("events", first.gateway_id, first.seq, len(deliveries), body)
        return cls(claim, headers, content_type or "", deliveries)

    @classmethod
    def restore(cls, stored: str, body: bytes) -> Self:
        """Parse the message of an `unproven` dead letter: its `headers`, and its body.

        Raises:
            BatchError: it is not a batch of events.

        """
        headers = orjson.loads(stored)
        return cls.read(headers.pop(_CONTENT_TYPE), headers, body)

    def unproven(self, objection: str) -> DeadLetter:
        """Return the whole message as a dead letter of no gateway, so that it is in no account."""
        claim = self.claim
        kept = {name: self.headers[name] for name in _HEADERS if _kept(self.headers.get(name))}
        stored = orjson.dumps({_CONTENT_TYPE: self.content_type, **kept})
        reason = (
            f"not believed: {objection}; it claims to be of gateway {claim.gateway_id},"
            f" seq {claim.first_seq} to {claim.first_seq + claim.events - 1}"
        )
        number = message_number(stored + claim.body)
        return DeadLetter("unproven", reason, "", number, claim.body, None, stored.decode())


def message_number(content: bytes) -> int:
    """Return the seq of a message that no gateway numbered: negative, and the same at every redelivery."""
    return -1 - (int.from_bytes(hashlib.sha256(content).digest()[:8]) >> 1)


def _kept(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and len(value) <= _LONGEST_HEADER)
