"""Clients that stop in the middle of a request: `python -m chaos.load.silent PORT NUMBER SECONDS`.

They connect from ten addresses. One that is rejected sends its request again, at most every five seconds.
"""

import asyncio
import os
import sys
from contextlib import suppress
from itertools import cycle, islice

from tests.support.unfinished import SOURCES, UNFINISHED

_EVERY_SECONDS = 5.0
_START_SECONDS = 0.002


async def main(port: int, number: int, seconds: float) -> None:
    """Keep `number` unfinished requests open for `seconds` after the last one has begun."""
    forms = cycle(request for request, _ in UNFINISHED.values() for _ in SOURCES)
    clients = []
    for source, request in zip(islice(cycle(SOURCES), number), forms, strict=False):
        clients.append(asyncio.create_task(_client(port, source, request)))
        await asyncio.sleep(_START_SECONDS)
    await asyncio.sleep(seconds)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)


async def _client(port: int, source: str, request: bytes) -> None:
    while True:
        wait = asyncio.create_task(asyncio.sleep(_EVERY_SECONDS))
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            try:
                writer.write(request)
                await reader.read()
            finally:
                writer.close()
        await wait


if __name__ == "__main__":
    # Elsewhere they are other machines; here they must not have the priority of the servers, which they inherit.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.nice(5)
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
