"""Background tasks that swallow a cancellation end nevertheless."""

import asyncio

import pytest

from shared.cancellation import background, cancel_and_wait


class Forgetful:
    """Swallows its first cancellation, as `asyncio.wait_for` of Python 3.11 may, and works on."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def run(self) -> None:
        while self.cancelled <= 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
        raise asyncio.CancelledError


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    forgetful = Forgetful()
    tasks = [asyncio.create_task(work) for work in (forgetful.run(), asyncio.sleep(3600))]
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await cancel_and_wait(*tasks, again_seconds=0.01)
    assert all(task.cancelled() for task in tasks)
    assert forgetful.cancelled == 2


async def test_short_cleanup_after_a_cancellation_is_not_interrupted() -> None:
    cleaned = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await cancel_and_wait(task)
    assert cleaned.is_set()


async def fail() -> None:
    raise ValueError("of the work")


async def test_a_body_ends_although_its_background_swallows_the_cancellation() -> None:
    forgetful = Forgetful()

    async def body() -> None:
        async with background(forgetful.run(), again_seconds=0.01):
            await asyncio.Event().wait()

    running = asyncio.create_task(body())
    await asyncio.sleep(0)
    running.cancel()
    _, pending = await asyncio.wait({running}, timeout=30)
    assert not pending
    assert running.cancelled()
    assert forgetful.cancelled == 2


async def test_an_error_in_the_background_cancels_the_body() -> None:
    with pytest.raises(ExceptionGroup) as group:
        async with background(fail()):
            await asyncio.Event().wait()
    assert [type(error) for error in group.value.exceptions] == [ValueError]


async def test_the_background_ends_with_the_body() -> None:
    async with background(asyncio.sleep(3600)) as task:
        await asyncio.sleep(0)
    assert task.cancelled()
