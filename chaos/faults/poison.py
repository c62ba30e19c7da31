"""Messages that a recorder cannot record, of many kinds.

A bug, or a foreign publisher with a password, could publish each kind. The good events of such a message must become
rows, and the bad ones must end in `cuarentena` with their bytes: `Poison` has both.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

import orjson
from pamqp.common import FieldValue

from shared.contracts.event_batches import CONTENT_TYPE, LARGEST_SEQ, Batch, split
from shared.contracts.gateway_proof import Claim, GatewayKey
from shared.contracts.transport import Delivery
from tests.support.recorder_suite import event

_HUGE = 1 << 20


@dataclass(frozen=True, slots=True)
class Poison:
    """One message: `aside` is the part that ends in quarantine, `recorded` the ids of its good events."""

    body: bytes
    aside: bytes
    recorded: tuple[str, ...] = ()
    content_type: str = CONTENT_TYPE
    headers: Mapping[str, FieldValue] = field(default_factory=dict)


class PoisonFactory:
    """Makes poison of a compromised gateway, which has a key and the enrolment secret; equal seeds make equal poison.

    `genuine` is a message of another gateway, if one was seen: its body and its headers.
    """

    genuine: tuple[bytes, Mapping[str, FieldValue]] | None = None

    def __init__(self, seed: Random, secret: bytes) -> None:
        """Number the events of its gateway from 1 and without gaps."""
        self._key, self._secret = GatewayKey(seed.randbytes(32)), secret
        self.seed, self._numbers = seed, count(1)

    @property
    def gateway_id(self) -> str:
        """The id of its gateway."""
        return self._key.gateway_id

    def make(self, kind: str) -> Poison:
        """Return one message of `kind`, one of `KINDS`."""
        return KINDS[kind](self)

    def good(self, event_id: str | None = None) -> bytes:
        """Return an event that can be recorded."""
        event_id = event_id or str(uuid.UUID(int=self.seed.getrandbits(128), version=4))
        return event(event_id=event_id, tsh=self.seed.randrange(1, 1_000_000) / 1000)

    def batch(self, aside: bytes, before: Sequence[bytes] = (), after: Sequence[bytes] = ()) -> Poison:
        """Return a message with `aside` between good events, packed as a gateway does."""
        events = [*before, aside, *after]
        [batch] = split([Delivery(self.gateway_id, next(self._numbers), each) for each in events], len(events))
        recorded = tuple(_id(each) for each in (*before, *after))
        return Poison(batch.body, aside, recorded, headers={**batch.headers, **self.proof(batch)})

    def proof(self, batch: Batch) -> dict[str, str]:
        """Return the proof of its gateway for `batch`."""
        claim = Claim("events", batch.gateway_id, batch.seqs.start, len(batch.seqs), batch.body)
        return self._key.proof(claim, self._secret)

    def forged(self, *, signed: bool) -> Poison:
        """Return a message in the name of another gateway: without a proof, or with that of its own gateway."""
        other = GatewayKey(self.seed.randbytes(32)).gateway_id
        [batch] = split([Delivery(other, self.seed.randrange(1, LARGEST_SEQ), self.good())], 1)
        return Poison(batch.body, batch.body, headers={**batch.headers, **(self.proof(batch) if signed else {})})


def _id(good: bytes) -> str:
    return str(orjson.loads(good)["id"])


def _spoilt(spoil: Callable[[bytes], bytes]) -> Callable[[PoisonFactory], Poison]:
    """Return a kind of message with one event: a good one, after a change that spoils it."""
    return lambda factory: factory.batch(spoil(factory.good()))


def _edited(**changes: object) -> Callable[[PoisonFactory], Poison]:
    return _spoilt(lambda good: orjson.dumps(orjson.loads(good) | changes))


def _replaced(what: bytes, by: bytes) -> Callable[[PoisonFactory], Poison]:
    def replaced(good: bytes) -> bytes:
        if what not in good:
            raise ValueError(f"an event has no {what!r} to replace")
        return good.replace(what, by, 1)

    return _spoilt(replaced)


def _one_bad_of_three(factory: PoisonFactory) -> Poison:
    return factory.batch(factory.good()[:-9], [factory.good()], [factory.good()])


def _id_of_another(factory: PoisonFactory) -> Poison:
    first = factory.good()
    return factory.batch(factory.good(_id(first)), [first])


def _of_a_stranger(factory: PoisonFactory) -> Poison:
    body = f"hello {factory.seed.getrandbits(64):x}".encode()
    return Poison(body, body, content_type="text/plain")


def _genuine_under_other_numbers(factory: PoisonFactory) -> Poison:
    if factory.genuine is None:
        return factory.forged(signed=True)
    body, headers = factory.genuine
    return Poison(body, body, headers={**headers, "first-seq": factory.seed.randrange(LARGEST_SEQ // 2, LARGEST_SEQ)})


def _from_a_nameless_gateway(factory: PoisonFactory) -> Poison:
    body = b"[" + factory.good() + b"]"
    return Poison(body, body, headers={"gateway-id": "\0", "first-seq": 1, "events": 1})


KINDS: Mapping[str, Callable[[PoisonFactory], Poison]] = {
    "broken JSON": _spoilt(lambda good: good[: len(good) // 2]),
    "unknown type": _edited(type="prediccion.imaginada"),
    "unknown version": _edited(version=99),
    "not UTF-8": _replaced("ñandú".encode(), b"\xf1and\xfa"),
    "empty": _spoilt(lambda _: b""),
    "huge": _spoilt(lambda good: b"[" * _HUGE + good),
    "number out of range": _replaced(b'"edad":41', b'"edad":1e999'),
    "time out of range": _edited(time="0001-01-01T00:00:00+23:59"),
    "NUL in a name": _replaced(b'"probabilidades":{', b'"probabilidades":{"\\u0000":"x",'),
    "one bad of three": _one_bad_of_three,
    "id of another": _id_of_another,
    "of a stranger": _of_a_stranger,
    "from a nameless gateway": _from_a_nameless_gateway,
    "forged without a proof": lambda factory: factory.forged(signed=False),
    "forged with another proof": lambda factory: factory.forged(signed=True),
    "genuine under other numbers": _genuine_under_other_numbers,
}
"""The function that makes each kind, by its name. A NUL is among them since PostgreSQL rejects it in a text."""
