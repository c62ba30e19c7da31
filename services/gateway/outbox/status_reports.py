"""Periodic reports of the outbox's status, by which the recorder can notice events that never arrived."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from shared.cancellation import cancel_and_wait
from shared.contracts.transport import OutboxState, TransportDownError

REPORT_SECONDS = 25
"""Interval of reports; `services.recorder.accounting.outbox_reports` and `/conciliacion` rely on it."""
_log = structlog.get_logger()


class ReportSink(Protocol):
    """Receives reports."""

    async def report(self, state: OutboxState) -> None:
        """Send `state`.

        Raises:
            TransportDownError: it cannot be sent now.

        """


@asynccontextmanager
async def reporting(
    state: Callable[[], OutboxState], sink: ReportSink, *, every_seconds: float = REPORT_SECONDS
) -> AsyncIterator[None]:
    """Report the result of `state`, now and every `every_seconds`."""
    task = asyncio.create_task(_report_repeatedly(state, sink, every_seconds))
    try:
        yield
    finally:
        await cancel_and_wait(task)


async def report_once(state: OutboxState, sink: ReportSink) -> None:
    """Report `state`; a failure is only logged, since the next report replaces this one."""
    try:
        await sink.report(state)
    except TransportDownError as error:
        _log.info("outbox_status_not_sent", reason=str(error))


async def _report_repeatedly(state: Callable[[], OutboxState], sink: ReportSink, every_seconds: float) -> None:
    while True:
        await report_once(state(), sink)
        await asyncio.sleep(every_seconds)
