"""Interruption of the rig: the effect of signals on it, on its processes and on its threads."""

import asyncio
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from chaos.stopping import STOPPED, in_thread, stoppable


@pytest.fixture
def _handlers() -> Iterator[None]:
    kept = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in kept.items():
        signal.signal(signum, handler)


@pytest.mark.usefixtures("_handlers")
def test_a_second_sigterm_does_not_interrupt_the_stopping() -> None:
    done: list[str] = []

    def main() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            done.append("stopped")
        return 0

    assert stoppable(main) == STOPPED
    assert done == ["stopped"]


@pytest.mark.usefixtures("_handlers")
def test_a_process_started_after_sigterm_can_be_terminated() -> None:
    codes: list[int] = []

    def main() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:  # as in a start that continues to its next await
            with subprocess.Popen(["sleep", "60"]) as child:
                child.terminate()
                codes.append(child.wait())
        return 0

    assert stoppable(main) == STOPPED
    assert codes == [-signal.SIGTERM]


async def test_a_cancelled_caller_waits_for_its_thread() -> None:
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        go.wait(60)
        done.set()

    caller = asyncio.create_task(in_thread(work))
    await asyncio.sleep(0)
    caller.cancel()
    _, pending = await asyncio.wait({caller}, timeout=0.05)
    assert pending
    go.set()
    await asyncio.wait({caller})
    assert caller.cancelled()
    assert done.is_set()


async def test_a_thread_hands_on_its_result_and_its_error() -> None:
    assert await in_thread(max, 1, 2) == 2
    assert await in_thread(sorted, [1, 2], reverse=True) == [2, 1]
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0)
