"""A supervised process: it is restarted whenever it ends, as by compose and Kubernetes.

It runs in the event loop of the rig, with asyncio's own process class, so `tests.support.processes` shares only the
environment and the deadline with it.
"""

import asyncio
import contextlib
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import STOP_SECONDS, clean_environment

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0


@dataclass(slots=True)
class Supervised:
    """`command` in `folder`, kept running by `run`; its output goes to `NAME.log` there.

    One that `announces` prints a line when it is ready, and the moments of that, on the clock of `time.monotonic`, are
    in `readied`. `ended` counts the ends by exit code, negative for a signal.
    """

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    announces: bool = True
    ended: dict[int, int] = field(default_factory=dict)
    readied: list[float] = field(default_factory=list)
    _process: Process | None = None
    _killed: Process | None = None
    _ready_since: float | None = None

    @property
    def pid(self) -> int | None:
        """Process id, while it runs and was not killed."""
        process = self._process
        if process is None or process is self._killed or process.returncode is not None:
            return None
        return process.pid

    @property
    def ready_seconds(self) -> float | None:
        """Seconds since it became ready, or None; a process without a ready line is ready at once."""
        return None if self.pid is None or self._ready_since is None else time.monotonic() - self._ready_since

    def send(self, signum: int) -> bool:
        """Send a signal; return whether a process received it. A killed process counts as gone."""
        if self.pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):  # it has ended, and the event loop does not know it yet
            os.kill(self.pid, signum)
            if signum == signal.SIGKILL:
                self._killed = self._process
            return True
        return False

    async def run(self) -> None:
        """Keep it running until cancelled; a process that ends by itself is restarted after growing delays."""
        wait = _FIRST_WAIT
        try:
            while True:
                code = await self._once()
                wait = _FIRST_WAIT if code < 0 else min(wait * 2, _LONGEST_WAIT)
                await asyncio.sleep(wait)
        finally:
            await self._stop()

    async def _once(self) -> int:
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.folder,
                env=clean_environment(self.environment),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=log,
            )
        self._ready_since = None if self.announces else time.monotonic()
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it is a pipe
        async for _ in stdout:  # the ready line, the only one that a service prints
            self._ready_since = time.monotonic()
            self.readied.append(self._ready_since)
        code = await self._process.wait()
        self.ended[code] = self.ended.get(code, 0) + 1
        return code

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        for signum in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signum)
            if signum == signal.SIGCONT:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
                return
