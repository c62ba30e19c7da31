"""The relay: takes what the outbox holds, oldest first, to where it is recorded, and removes what is durable there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from services.gateway.outbox.outbox import OutboxError
from shared.contracts.transport import TransportDownError
from shared.failpoints import failpoint

if TYPE_CHECKING:
    from services.gateway.outbox.disk_guard import Disk
    from services.gateway.outbox.outbox import Outbox
    from shared.contracts.transport import Transport

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0


class Relay:
    """Moves segments from `outbox` to `transport`. Any doubt is "unknown": the segment is handed over again."""

    def __init__(
        self, outbox: Outbox, transport: Transport, disk: Disk, *, batch_events: int, linger_seconds: float
    ) -> None:
        """Hand over about `batch_events` at once, after letting them gather for `linger_seconds`."""
        self._outbox, self._transport, self._disk = outbox, transport, disk
        self._batch_events, self._linger = batch_events, linger_seconds
        self._log = structlog.get_logger()
        self._stopping = asyncio.Event()
        self.trouble: str | None = None

    async def run(self) -> None:
        """Hand over whatever comes, until `stop`. Being cancelled is safe at any point, too."""
        wait = _FIRST_WAIT
        while not self._stopping.is_set():
            await self._first(self._outbox.filled, self._stopping)
            if not self._outbox.pending:
                continue
            if await self.hand_over():
                wait = _FIRST_WAIT
                # A row may come some milliseconds later; a batch costs far less than its rows one by one.
                pause = self._linger
            else:
                pause, wait = wait, min(wait * 2, _LONGEST_WAIT)
            await self._first(self._stopping, seconds=pause)

    def stop(self) -> None:
        """Let `run` end after the batch it is at."""
        self._stopping.set()

    async def drain(self, seconds: float) -> None:
        """Hand over what is left, for at most `seconds`; the rest waits on disk for the next start."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._outbox.pending and await self.hand_over():
                    pass
        if self._outbox.pending:
            self._log.warning("outbox_not_drained", pending=self._outbox.pending, reason=self.trouble)

    async def hand_over(self) -> bool:
        """Hand over one batch; returns whether anything left the outbox."""
        try:
            segments = await self._outbox.segments(self._batch_events)
            durable = await self._transport.publish([d for segment in segments for d in segment.deliveries])
            done = [s for s in segments if all(delivery.seq in durable for delivery in s.deliveries)]
            failpoint("relay.handed-over")
            await self._outbox.discard(done)
        except TransportDownError as error:
            self._report(f"answers wait in the outbox: {error}")
            return False
        except OutboxError as error:
            self._disk.failed()
            self._report(str(error))
            return False
        if segments and not done:
            self._report("answers wait in the outbox: none was confirmed")
            return False
        self._report(None)
        return bool(done)

    async def _first(self, *events: asyncio.Event, seconds: float | None = None) -> None:
        """Wait for one of `events`, for at most `seconds`."""
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    def _report(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            if trouble is None:
                self._log.info("relay_recovered")
            else:
                self._log.warning("relay_blocked", reason=trouble, pending=self._outbox.pending)
        self.trouble = trouble
