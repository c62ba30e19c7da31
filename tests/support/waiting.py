"""Waiting for an observation, with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable

_STEP = 0.01


async def until(holds: Callable[[], bool | Awaitable[bool]], *, seconds: float = 60) -> None:
    """Return as soon as `holds()`; raise TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            seen = holds()
            if await seen if isawaitable(seen) else seen:
                return
            await asyncio.sleep(_STEP)


def until_now(holds: Callable[[], bool], *, seconds: float = 60, every: float = _STEP) -> None:
    """Return as soon as `holds()`; raise TimeoutError after `seconds`. For tests without an event loop.

    It looks `every` so many seconds: a look that costs much takes the processor from what it waits for.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(every)
