"""The relay: sends the events of the outbox, oldest first, and removes those that are durable elsewhere."""

import asyncio
import contextlib

import structlog

from services.gateway.outbox.disk_guard import DiskGuard
from services.gateway.outbox.outbox import Outbox, OutboxError
from shared.contracts.transport import Transport, TransportDownError
from shared.failpoints import failpoint

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0


class Relay:
    """Sends segments of `outbox` to `transport`. A segment with an unknown result is sent again."""

    def __init__(
        self, outbox: Outbox, transport: Transport, disk: DiskGuard, *, batch_events: int, linger_seconds: float
    ) -> None:
        """Send about `batch_events` at once, after waiting `linger_seconds` for more."""
        self._outbox, self._transport, self._disk = outbox, transport, disk
        self._batch_events, self._linger = batch_events, linger_seconds
        self._log = structlog.get_logger()
        self._stopping = asyncio.Event()
        self.failure: str | None = None

    async def run(self) -> None:
        """Send events until `stop`. Cancelling is safe at any point, too."""
        wait = _FIRST_WAIT
        while not self._stopping.is_set():
            await self._wait_for_any(self._outbox.filled, self._stopping)
            if not self._outbox.pending:
                continue
            if await self.send_batch():
                wait = _FIRST_WAIT
                # Rows may be recorded some milliseconds later; a batch costs far less than single rows.
                pause = self._linger
            else:
                pause, wait = wait, min(wait * 2, _LONGEST_WAIT)
            await self._wait_for_any(self._stopping, seconds=pause)

    def stop(self) -> None:
        """End `run` after the current batch."""
        self._stopping.set()

    async def drain(self, seconds: float) -> None:
        """Send the rest, for at most `seconds`; events that are left wait on disk for the next start."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._outbox.pending and await self.send_batch():
                    pass
        if self._outbox.pending:
            self._log.warning("outbox_not_drained", pending=self._outbox.pending, reason=self.failure)

    async def send_batch(self) -> bool:
        """Send one batch; return whether any event left the outbox."""
        try:
            segments = await self._outbox.segments(self._batch_events)
            durable = await self._transport.publish([d for segment in segments for d in segment])
            done = [s for s in segments if all(delivery.seq in durable for delivery in s)]
            failpoint("relay.handed-over")
            await self._outbox.discard(done)
        except TransportDownError as error:
            self._report(f"answers wait in the outbox: {error}")
            return False
        except OutboxError as error:
            self._disk.failed(None if error.full else str(error))
            self._report(str(error))
            return False
        if segments and not done:
            self._report("answers wait in the outbox: none was confirmed")
            return False
        self._report(None)
        return bool(done)

    async def _wait_for_any(self, *events: asyncio.Event, seconds: float | None = None) -> None:
        """Wait until one of `events` is set, for at most `seconds`."""
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    def _report(self, failure: str | None) -> None:
        if failure != self.failure:
            if failure is None:
                self._log.info("relay_recovered")
            else:
                self._log.warning("relay_blocked", reason=failure, pending=self._outbox.pending)
        self.failure = failure
