"""Identifiers of predictions and feedback: UUIDs of RFC 9562."""

import os
import time
import uuid

_KEYED = uuid.UUID("6f2b1c0e-5d0a-5a51-9f0e-1f6b8f0c7a11")
"""Namespace of ids made from an `Idempotency-Key`; if it changed, every retry would be a new prediction."""

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_BITS = (1 << 62) - 1


def new_id() -> str:
    """Return a UUIDv7: 48 bits of Unix milliseconds, 12 bits of the millisecond's fraction (method 3), 62 random bits.

    Ids sort by time, so that the newest rows of a table are adjacent.
    """
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = (rest << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") & _RANDOM_BITS
    return str(uuid.UUID(int=(milliseconds << 80) | _VERSION_7 | (fraction << 64) | _VARIANT | random))


def keyed_id(caller: str, idempotency_key: str) -> str:
    """Return the UUIDv5 of both arguments. It is the same on every replica, so that a retry anywhere is one row."""
    return str(uuid.uuid5(_KEYED, f"{len(caller)}:{caller}:{idempotency_key}"))


def keyed_feedback_id(prediction_id: str, caller: str, idempotency_key: str) -> str:
    """Return the UUIDv5 of feedback, in the namespace of its prediction: keys of other requests cannot collide."""
    return str(uuid.uuid5(uuid.UUID(prediction_id), f"{len(caller)}:{caller}:{idempotency_key}"))
