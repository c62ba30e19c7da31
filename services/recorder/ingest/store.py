"""The store: records a batch of deliveries in one transaction, all or nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from services.recorder.accounting.outbox_reports import OutboxReport, store_each_report, store_reports
from services.recorder.db.database import DATABASE_ERRORS, Writer, is_unusable, reason
from services.recorder.db.rows import EventRow
from services.recorder.ingest.parsing import DeadLetter, order_feedback, read_row
from services.recorder.ingest.writes import BatchStats, touch, write_batch, write_each
from services.recorder.metrics import Metrics
from shared.contracts.transport import Delivery, TransportDownError
from shared.failpoints import failpoint

T = TypeVar("T")
_Write = Callable[["Connection", "Sequence[EventRow]", "Sequence[DeadLetter]", datetime], BatchStats]
_StoreReports = Callable[["Connection", "Sequence[OutboxReport]", datetime], None]
_READ_AT_ONCE = 100
"""Events parsed before the event loop runs other tasks: about a millisecond, less than a turn of a busy loop."""
_BYTES_AT_ONCE = 1 << 20
"""As many bytes: a gateway's hundred events have a tenth."""
_log = structlog.get_logger()


class Store:
    """The only writer of the database."""

    def __init__(self, writer: Writer, metrics: Metrics) -> None:
        """Write through `writer`."""
        self._writer = writer
        self._metrics = metrics
        self._writing: set[asyncio.Task[BatchStats]] = set()
        self._failure: str | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    async def record(
        self, batch: Sequence[Delivery], unreadable: Sequence[DeadLetter] = (), reports: Sequence[OutboxReport] = ()
    ) -> set[int]:
        """Record or quarantine every delivery of `batch` in one transaction; return their `seq`, all durable now.

        The same transaction quarantines `unreadable` and stores `reports` of gateways. Deliveries that are recorded
        already change nothing. Cancelling the caller does not interrupt the transaction.

        Raises:
            TransportDownError: the database cannot be written; nothing was changed.

        """
        now = datetime.now(UTC)
        rows: list[EventRow] = []
        dead_letters = list(unreadable)
        for part in _parts(batch):
            for delivery in part:
                row = read_row(delivery, now)
                if isinstance(row, DeadLetter):
                    dead_letters.append(row)
                    continue
                order_feedback(row, now, len(rows))
                rows.append(row)
            await asyncio.sleep(0)
        writing = asyncio.create_task(self._write(rows, dead_letters, reports, now))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        self._metrics.count(await asyncio.shield(writing))
        return {delivery.seq for delivery in batch}

    async def publish(self, batch: Sequence[Delivery]) -> set[int]:
        """Record `batch` of a relay in this process: the store is a `shared.contracts.transport.Transport`."""
        return await self.record(batch)

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction and return its result.

        Raises:
            TransportDownError: the database cannot be written; nothing was changed.

        """
        try:
            return await self._transaction(work)
        except DATABASE_ERRORS as error:
            raise self._is_down(error) from None

    def down(self) -> str | None:
        """Return why the last attempt could not write the database, or None."""
        return self._failure

    async def writable(self) -> None:
        """Wait until the database can be written, as far as is known; needs `watched`."""
        await self._writable.wait()

    @asynccontextmanager
    async def watched(self, every_seconds: float = 1) -> AsyncIterator[None]:
        """Maintain the database, and probe one that is down until it can be written.

        At the end, wait for running transactions.
        """
        watch = asyncio.create_task(self._watch(every_seconds))
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, *self._writing, return_exceptions=True)

    async def _write(
        self,
        rows: Sequence[EventRow],
        dead_letters: Sequence[DeadLetter],
        reports: Sequence[OutboxReport],
        now: datetime,
    ) -> BatchStats:
        def work(connection: Connection, write: _Write, store: _StoreReports) -> BatchStats:
            stats = write(connection, rows, dead_letters, now)
            store(connection, reports, now)
            failpoint("recorder.write")
            return stats

        with self._metrics.batch(len(rows) + len(dead_letters)):
            try:
                return await self._transaction(partial(work, write=write_batch, store=store_reports))
            except Exception as error:  # noqa: BLE001 - a value that nobody foresaw must not stop all recording
                if is_unusable(error):
                    raise self._is_down(error) from None
            try:
                return await self._transaction(partial(work, write=write_each, store=store_each_report))
            except DATABASE_ERRORS as error:
                raise self._is_down(error) from None

    async def _transaction(self, work: Callable[[Connection], T]) -> T:
        result = await self._writer.transaction(work)
        if self._failure is not None:
            self._writable.set()
            self._failure = None
            _log.info("database_writable_again")
        return result

    def _is_down(self, error: Exception) -> TransportDownError:
        if self._failure is None:
            self._writable.clear()
            _log.error("database_not_writable", reason=reason(error))
        self._failure = f"the database cannot be written: {reason(error)}"
        return TransportDownError(self._failure)

    async def _watch(self, every_seconds: float) -> None:
        while True:
            await asyncio.sleep(every_seconds)
            try:
                if self._failure is None:
                    await self._writer.maintain()
                else:
                    await self._transaction(touch)
            except DATABASE_ERRORS as error:
                self._is_down(error)


def _parts(batch: Sequence[Delivery]) -> Iterator[Sequence[Delivery]]:
    """Yield `batch` in parts of at most `_READ_AT_ONCE` events, which are shorter if the events are long."""
    start = 0
    while start < len(batch):
        part = batch[start : start + _READ_AT_ONCE]
        size = sum(len(delivery.body) for delivery in part)
        if size > _BYTES_AT_ONCE:
            part = part[: max(1, len(part) * _BYTES_AT_ONCE // size)]
        yield part
        start += len(part)
