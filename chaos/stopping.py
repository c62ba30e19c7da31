"""The end of a run: SIGTERM and Ctrl-C stop every process that was started, and a missing program is one line."""

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from chaos.programs import UNAVAILABLE, UnavailableError

P = ParamSpec("P")
T = TypeVar("T")

STOPPED = 130
"""Exit code of an interrupted run, as shells return it for Ctrl-C."""
WITH_PARENT = ("setpriv", "--pdeathsig", "TERM", "--")
"""Prefix of a command: the kernel sends SIGTERM to it when the thread that started it dies, even by `kill -9`."""


def stoppable(main: Callable[[], int]) -> int:
    """Run `main` and return its exit code. SIGTERM acts as Ctrl-C: the stack unwinds, which stops all processes.

    If a program is missing on this machine, it is named in one line.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background of a script ignores it
    signal.signal(signal.SIGTERM, _once)
    try:
        return main()
    except KeyboardInterrupt:
        print("chaos: told to stop; everything it started is stopped", file=sys.stderr)
        return STOPPED
    except UnavailableError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return UNAVAILABLE


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a thread and return its result. A cancelled caller waits until the thread has ended.

    A thread cannot be stopped, and one that starts or stops a server must not run concurrently with the clean-up.
    """
    running = asyncio.create_task(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


def _once(_: int, __: object) -> None:
    # A second signal would interrupt the clean-up. Not SIG_IGN: a process that is started from now on would inherit it.
    signal.signal(signal.SIGTERM, _ignored)
    signal.raise_signal(signal.SIGINT)


def _ignored(_: int, __: object) -> None:
    """Ignore the signal: the run is stopping already."""
