"""The gateway says from time to time how far its outbox is, so that an answer that never arrived can be missed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import structlog

from shared.cancellation import cancel_and_wait
from shared.contracts.transport import TransportDownError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.contracts.transport import OutboxState

REPORT_SECONDS = 25
"""From one report to the next. `services.recorder.accounting.outbox_reports` and `/conciliacion` count on it."""
_log = structlog.get_logger()


class Hears(Protocol):
    """Takes reports."""

    async def report(self, state: OutboxState) -> None:
        """Pass `state` on.

        Raises:
            TransportDownError: it cannot be passed on now.

        """


@asynccontextmanager
async def reporting(
    state: Callable[[], OutboxState], to: Hears, *, every_seconds: float = REPORT_SECONDS
) -> AsyncIterator[None]:
    """Report what `state` gives, now and every `every_seconds`."""
    task = asyncio.create_task(_report_ever(state, to, every_seconds))
    try:
        yield
    finally:
        await cancel_and_wait(task)


async def report_once(state: OutboxState, to: Hears) -> None:
    """Report `state`; a report that fails is not worth more than a line, as the next one says it all."""
    try:
        await to.report(state)
    except TransportDownError as error:
        _log.info("gateway_state_not_said", reason=str(error))


async def _report_ever(state: Callable[[], OutboxState], to: Hears, every_seconds: float) -> None:
    while True:
        await report_once(state(), to)
        await asyncio.sleep(every_seconds)
