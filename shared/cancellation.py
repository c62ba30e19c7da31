"""Cancellation of tasks that is repeated until it takes effect."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

_AGAIN_SECONDS = 5.0


async def cancel_and_wait(*tasks: asyncio.Task[Any], again_seconds: float = _AGAIN_SECONDS) -> None:
    """Cancel `tasks` and return once all have ended; their results and errors stay in them.

    One `Task.cancel` can be lost. `asyncio.wait_for` of Python 3.11, which aiormq uses, returns a result that arrives
    in the same turn of the event loop, and aiormq raises the error of a connection that ends in that turn. A task that
    loops then goes on, so tasks that still run are cancelled again every `again_seconds`. That interrupts cleanup in
    them that takes longer.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=again_seconds)


@asynccontextmanager
async def background(
    work: Coroutine[Any, Any, None], *, again_seconds: float = _AGAIN_SECONDS
) -> AsyncIterator[asyncio.Task[None]]:
    """Run `work` in a task as long as the body runs; yields the task. An error of `work` cancels the body.

    However the body ends, the task is cancelled and has ended afterwards; see `cancel_and_wait`.

    Raises:
        ExceptionGroup: the errors of the body and of `work`, as from a TaskGroup.

    """
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        try:
            yield task
        finally:
            await cancel_and_wait(task, again_seconds=again_seconds)
