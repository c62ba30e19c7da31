"""An end before the end: what was started is stopped, whoever asks for it."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

STOPPED = 130
"""The exit code of what was told to stop, as shells have it for Ctrl-C."""
WITH_PARENT = ("setpriv", "--pdeathsig", "TERM", "--")
"""Before a command: it is told to stop when the thread that started it is gone, even by `kill -9`."""


def stoppable(main: Callable[[], int]) -> int:
    """Run `main`, and take SIGTERM for Ctrl-C: it unwinds, which stops all that it started; returns its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who is started in a script's background ignores it
    signal.signal(signal.SIGTERM, _once)
    try:
        return main()
    except KeyboardInterrupt:
        print("chaos: told to stop; everything it started is stopped", file=sys.stderr)
        return STOPPED


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a thread; returns its result. A cancelled caller waits until the thread has ended.

    Nothing can stop a thread. One that starts or stops a server must not do so beside the code that cleans up.
    """
    running = asyncio.create_task(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


def _once(_: int, __: object) -> None:
    # A second signal would cut the stopping short. Not SIG_IGN: a process that is started from now on would inherit it.
    signal.signal(signal.SIGTERM, _ignored)
    signal.raise_signal(signal.SIGINT)


def _ignored(_: int, __: object) -> None:
    """Do nothing: it is stopping already."""
