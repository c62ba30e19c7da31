"""Periodic reports of the outbox's status, by which the recorder can notice events that never arrived."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import structlog

from shared.cancellation import cancel_and_wait
from shared.contracts.transport import OutboxState, TransportDownError

REPORT_SECONDS = 25
"""Interval of reports; `services.recorder.accounting.outbox_reports` and `/conciliacion` rely on it."""
_log = structlog.get_logger()

Report = Callable[[OutboxState], Awaitable[None]]
"""Sends a state; raises TransportDownError if it cannot be sent now."""


@asynccontextmanager
async def reporting(
    states: Callable[[], Iterable[OutboxState]], report: Report, *, every_seconds: float = REPORT_SECONDS
) -> AsyncIterator[None]:
    """Send the results of `states` by `report`, now and every `every_seconds`."""

    async def report_repeatedly() -> None:
        while True:
            await report_once(states(), report)
            await asyncio.sleep(every_seconds)

    task = asyncio.create_task(report_repeatedly())
    try:
        yield
    finally:
        await cancel_and_wait(task)


async def report_once(states: Iterable[OutboxState], report: Report) -> None:
    """Send `states`; a failure is only logged, since the next report replaces this one."""
    try:
        for state in states:
            await report(state)
    except TransportDownError as error:
        _log.info("outbox_status_not_sent", reason=str(error))
