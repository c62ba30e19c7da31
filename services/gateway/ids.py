"""Identifiers of predictions: UUIDs as of RFC 9562."""

from __future__ import annotations

import os
import time
import uuid

_KEYED = uuid.UUID("6f2b1c0e-5d0a-5a51-9f0e-1f6b8f0c7a11")
"""Namespace of ids made from an `Idempotency-Key`; changing it would turn every retry into a new prediction."""

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_BITS = (1 << 62) - 1


def new_id() -> str:
    """Make a UUIDv7: 48 bits of Unix milliseconds, 12 bits of the millisecond's fraction (method 3), 62 random bits.

    Ids sort by time, so that the newest rows of a table lie together.
    """
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = (rest << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") & _RANDOM_BITS
    return str(uuid.UUID(int=(milliseconds << 80) | _VERSION_7 | (fraction << 64) | _VARIANT | random))


def keyed_id(caller: str, key: str) -> str:
    """Make the UUIDv5 of `caller` and `key`: the same on every replica, so that a retry anywhere is one row."""
    return str(uuid.uuid5(_KEYED, f"{len(caller)}:{caller}:{key}"))


def keyed_outcome_id(prediction_id: str, caller: str, key: str) -> str:
    """Make the UUIDv5 of a keyed outcome, with the prediction as namespace: other requests' keys never meet it."""
    return str(uuid.uuid5(uuid.UUID(prediction_id), f"{len(caller)}:{caller}:{key}"))
