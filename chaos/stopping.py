"""An end before the end: what was started is stopped, whoever asks for it."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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


def _once(signum: int, _: object) -> None:
    signal.signal(signum, signal.SIG_IGN)  # a second one would cut the stopping short
    signal.raise_signal(signal.SIGINT)
