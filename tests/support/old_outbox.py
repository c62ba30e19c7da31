"""The outbox of version 0.1: its gateway id is a UUID without a key."""

import sqlite3
from contextlib import closing
from pathlib import Path

from services.gateway.outbox.outbox import Outbox

OLD_ID = "1c1b5f6e-0f0e-4a52-8d4c-3f3a4f7d8a11"
_LATER_TABLES = ("identity", "replaced", "outbox_of_replaced", "signing_keys")


async def old_outbox(path: Path, *events: bytes) -> None:
    """Write the outbox of a stopped gateway with the id `OLD_ID`, in which `events` wait, numbered from 1."""
    outbox = await Outbox.open(path, keep_answers=60)
    for event in events:
        await outbox.append(event)
    await outbox.close()
    with closing(sqlite3.connect(path)) as file, file:
        for table in _LATER_TABLES:
            file.execute(f"DROP TABLE {table}")
        file.execute("UPDATE account SET gateway_id = ?", (OLD_ID,))
