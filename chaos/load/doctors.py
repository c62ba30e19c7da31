"""Doctors at work in this process: each asks, waits for the answer, and asks again; how many were failed, and when."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_DOCTORS = 8
_PAUSE_SECONDS = 0.01
_PATIENT = {"edad": 47, "sexo": "F", "tsh": 1.5}
_OK = 200


@dataclass(slots=True)
class Account:
    """When each request of the doctors was sent, and the status it got; 0 if the connection ended."""

    got: list[tuple[float, int]] = field(default_factory=list)

    def failed(self, since: float, to: float = float("inf")) -> tuple[int, int]:
        """Count the requests sent in a span of time that failed, and all of them."""
        statuses = [status for sent, status in self.got if since <= sent < to]
        return sum(status != _OK for status in statuses), len(statuses)

    async def more(self, count: int) -> None:
        """Wait for so many more requests."""
        enough = len(self.got) + count
        await until(lambda: len(self.got) >= enough, seconds=120)


@asynccontextmanager
async def doctors(url: str) -> AsyncIterator[Account]:
    """Let doctors ask as long as the body runs, and be answered what they asked last."""
    account, enough = Account(), asyncio.Event()

    async def work(client: aiohttp.ClientSession) -> None:
        while not enough.is_set():
            sent, status = time.monotonic(), 0
            try:
                async with client.post(f"{url}/predecir", json=_PATIENT) as response:
                    await response.read()
                    status = response.status
            except (aiohttp.ClientError, TimeoutError):
                pass
            account.got.append((sent, status))
            await asyncio.sleep(_PAUSE_SECONDS)

    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as client, asyncio.TaskGroup() as tasks:
        for _ in range(_DOCTORS):
            tasks.create_task(work(client))
        try:
            yield account
        finally:
            enough.set()
