"""An async context in a thread with an event loop of its own, for tests without an event loop."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def in_loop_thread(context: AbstractAsyncContextManager[T], *, seconds: float) -> Iterator[T]:
    """Enter `context` in the thread, yield its value, and exit it at the end; each takes at most `seconds`."""
    entered: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        leaving = asyncio.Event()
        async with context as value:
            entered.set_result((value, asyncio.get_running_loop(), leaving))
            await leaving.wait()

    with ThreadPoolExecutor(1) as thread:
        serving = thread.submit(asyncio.run, serve())
        value, loop, leaving = entered.result(seconds)
        try:
            yield value
        finally:
            loop.call_soon_threadsafe(leaving.set)
            serving.result(seconds)
