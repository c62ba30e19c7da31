"""Recording: a batch of deliveries becomes rows in one transaction, or nothing happened and the reason is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog

from services.recorder.accounting.outbox_reports import OutboxReports, keep_reports
from services.recorder.db.database import DATABASE_ERRORS, reason, refuses_values
from services.recorder.ingest.parsing import Poison, read_row
from services.recorder.ingest.writes import Outcome, touch, write_batch, write_each
from shared.contracts.transport import TransportDownError
from shared.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy import Connection

    from services.recorder.db.database import Writer
    from services.recorder.db.rows import EventRow
    from services.recorder.metrics import Metrics
    from shared.contracts.transport import Delivery

T = TypeVar("T")
_Write = Callable[["Connection", "Sequence[EventRow]", "Sequence[Poison]", datetime], Outcome]
_READ_AT_ONCE = 100
"""Events read before the event loop gets its turn: about a millisecond. A busy loop's turns are longer than that."""
_log = structlog.get_logger()


class Store:
    """The one writer of the database."""

    def __init__(self, writer: Writer, metrics: Metrics) -> None:
        """Write through `writer`."""
        self._writer = writer
        self._metrics = metrics
        self._writing: set[asyncio.Task[Outcome]] = set()
        self._failure: str | None = None
        self._failed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    async def record(
        self, batch: Sequence[Delivery], unreadable: Sequence[Poison] = (), heard: Sequence[OutboxReports] = ()
    ) -> set[int]:
        """Record or quarantine every delivery of `batch`, in one transaction; returns their `seq`, all durable now.

        `unreadable` is quarantined with it, and what was `heard` of gateways is kept. What was recorded before is
        absorbed. Cancelling the caller does not cut the transaction short.

        Raises:
            TransportDownError: the database cannot be written; nothing was done.

        """
        now = datetime.now(UTC)
        rows: list[EventRow] = []
        poison = list(unreadable)
        for start in range(0, len(batch), _READ_AT_ONCE):
            for delivery in batch[start : start + _READ_AT_ONCE]:
                read = read_row(delivery, now)
                if isinstance(read, Poison):
                    poison.append(read)
                else:
                    rows.append(read)
            await asyncio.sleep(0)
        writing = asyncio.create_task(self._write(rows, poison, heard, now))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        outcome = await asyncio.shield(writing)
        self._metrics.count(outcome)
        return {delivery.seq for delivery in batch}

    def down(self) -> str | None:
        """Why the database cannot be written, as of the last attempt, or None."""
        return self._failure

    async def writable(self) -> None:
        """Wait as long as the database is known not to be; needs `watched`."""
        await self._writable.wait()

    @asynccontextmanager
    async def watched(self, every_seconds: float = 1) -> AsyncIterator[None]:
        """Notice by itself when a database that was down works again; at the end, wait for what is being written."""
        watch = asyncio.create_task(self._watch(every_seconds))
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, *self._writing, return_exceptions=True)

    async def _write(
        self, rows: Sequence[EventRow], poison: Sequence[Poison], heard: Sequence[OutboxReports], now: datetime
    ) -> Outcome:
        def written(connection: Connection, write: _Write) -> Outcome:
            outcome = write(connection, rows, poison, now)
            keep_reports(connection, heard, now)
            failpoint("recorder.write")
            return outcome

        with self._metrics.batch(len(rows) + len(poison)):
            try:
                return await self._transaction(partial(written, write=write_batch))
            except DATABASE_ERRORS as error:
                if not refuses_values(error):
                    raise self._is_down(error) from None
            try:
                return await self._transaction(partial(written, write=write_each))
            except DATABASE_ERRORS as error:
                raise self._is_down(error) from None

    async def _transaction(self, work: Callable[[Connection], T]) -> T:
        result = await self._writer.transaction(work)
        if self._failed.is_set():
            self._failed.clear()
            self._writable.set()
            self._failure = None
            _log.info("database_writable_again")
        return result

    def _is_down(self, error: Exception) -> TransportDownError:
        self._failure = f"the database cannot be written: {reason(error)}"
        if not self._failed.is_set():
            self._failed.set()
            self._writable.clear()
            _log.error("database_not_writable", reason=reason(error))
        return TransportDownError(self._failure)

    async def _watch(self, every_seconds: float) -> None:
        while await self._failed.wait():
            await asyncio.sleep(every_seconds)
            try:
                await self._transaction(touch)
            except DATABASE_ERRORS as error:
                self._is_down(error)
