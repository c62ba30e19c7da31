"""Samples of the backlog in outboxes and queue, twice a second, over HTTP."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import aio_pika
import aiohttp
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from shared.broker.topology import topology

_LOOK_SECONDS = 0.5
_ANSWER_SECONDS = 2
_PENDING = "predecir_outbox_pending "


class Sample(NamedTuple):
    """Events in the outboxes and messages ready in the queue; None where a request failed."""

    at: float
    outbox: int | None
    queue: int | None

    @property
    def backlog(self) -> int | None:
        """The whole backlog, or None if it is not known."""
        return None if self.outbox is None or self.queue is None else self.outbox + self.queue


class Watcher:
    """Samples gateways and, if there is one, the broker between them and the recorders."""

    def __init__(self, gateways: Sequence[str], broker: str | None) -> None:
        """Poll `gateways` and `broker` by their URLs, and collect the results in `samples`."""
        self._gateways, self._broker = gateways, broker
        self._connection: AbstractConnection | None = None
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """Sample until cancelled."""
        try:
            while True:
                self.samples.append(await self.look())
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await self._close()

    async def look(self) -> Sample:
        """Take one sample."""
        outbox, queue = await asyncio.gather(self._outbox(), self._queue())
        return Sample(time.monotonic(), outbox, queue)

    async def _outbox(self) -> int | None:
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session:
                pages = await asyncio.gather(*(_page(session, url) for url in self._gateways))
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        lines = (line for page in pages for line in page.splitlines() if line.startswith(_PENDING))
        return sum(int(float(line.split()[1])) for line in lines)

    async def _queue(self) -> int | None:
        if self._broker is None:
            return 0
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                if self._connection is None or self._connection.is_closed:
                    self._connection = await aio_pika.connect(self._broker)
                channel = await self._connection.channel()
                declared = await channel.declare_queue(topology("predecir").events.name, passive=True)
                await channel.close()
                return declared.declaration_result.message_count
        except (TimeoutError, *CONNECTION_EXCEPTIONS):
            await self._close()
            return None

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(TimeoutError, *CONNECTION_EXCEPTIONS):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await connection.close()


async def _page(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(f"{url}/metrics") as response:
        return await response.text()
