"""SQLite: one file, one writing connection in its own thread, and a pool of read-only connections.

There is one writing connection because, before SQLite 3.51.3, two that write or checkpoint one WAL file can corrupt it
(https://www.sqlite.org/wal.html). It uses synchronous=FULL, so a commit is on disk. Before and after each commit it
checks that the path still leads to the open file; if not, it opens the file at the path.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import orjson
import structlog
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from services.recorder.db.sqlite_file import Change, FileChangedError, SqliteFile
from shared.files import file_version
from shared.web.hosting import StartError

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")
_RETRY_SECONDS = 0.01
_IDLE_SECONDS = 1
"""Time after a commit until the WAL is written into the file, so that a copy of the file alone is complete."""
_ROWS_PER_CHECKPOINT = 500
"""Changed rows, of up to ten pages each, after which the WAL is written into the file without a pause in commits."""
_log = structlog.get_logger()


class SqliteWriter:
    """Runs transactions one after the other on one connection and one thread.

    A whole transaction is one call on that thread. In the local profile the gateway's event loop shares the process:
    each call, and each statement, has to win the interpreter lock back from it.
    """

    def __init__(self, url: URL, *, readers: int, busy_seconds: float) -> None:
        """Write to `url`, with a pool of `readers`; wait at most `busy_seconds` for the lock of another program."""
        self.file = SqliteFile(Path(url.database or ""))
        self.readers = _readers(self.file, size=readers, busy_seconds=busy_seconds)
        self._busy_seconds = busy_seconds
        self._engine: Engine | None = None
        self._preparations: list[Callable[[Connection], object]] = []
        self._reopening = asyncio.Lock()
        self._last_commit: float | None = None
        """None if the WAL is empty."""
        self._rows_written = 0
        """Changed rows of the connection that a checkpoint has tried to write into the file."""
        self._thread = ThreadPoolExecutor(1, "recorder-writer")

    async def open(self) -> None:
        """Create the file if it is missing, and open it; it must be locked.

        Raises:
            FileChangedError: file and WAL are not one database.
            OSError, sqlite3.Error, SQLAlchemyError: it cannot be opened.

        """
        await self._on_thread(self._open_first)
        self.file.in_use = True

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, which ends even if the caller is cancelled.

        Raises:
            FileChangedError: the path does not lead to the open file; a commit may be in the file that was there.

        """
        await self._ensure_in_use()
        return await self._on_thread(self._run, work)

    async def at_opening(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction now, and again whenever another file is opened."""
        result = await self.transaction(work)
        self._preparations.append(work)
        return result

    async def maintain(self) -> None:
        """Check that the path leads to the open file; after a pause without commits, write the WAL into the file.

        Raises:
            FileChangedError: the path does not lead to the open file.

        """
        await self._ensure_in_use()
        await self._on_thread(self._maintain)

    async def close(self) -> None:
        """Wait for the running transaction, and close the connection: SQLite's last one empties the WAL."""
        await self._on_thread(self._close)
        self._thread.shutdown()
        self.file.unlock()

    def _on_thread(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _ensure_in_use(self) -> None:
        if not self.file.locked and not await self._on_thread(self.file.keep_lock):
            raise self.file.locked_by_another()
        if not self.file.in_use:
            async with self._reopening:
                if not self.file.in_use:
                    await self._reopen()

    async def _reopen(self) -> None:
        """Go on with the open file if it is at its path again; otherwise open and prepare the one that is there.

        Raises:
            FileChangedError: there is none, it cannot be used, or a query still reads the former one.

        """
        # On the thread, because a commit that runs there may write the WAL into the file.
        change = await self._on_thread(self.file.change)
        if change is Change.GONE:
            await self._on_thread(self._complete)
            raise self.file.changed(change)
        if change is not Change.NONE or self._engine is None:
            await self._open_other(change)
        self.file.in_use = True

    async def _open_other(self, change: Change) -> None:
        if change in {Change.REPLACED, Change.CONTENT} and self.file.is_being_written():
            raise self.file.changed(change)
        if self.readers.pool.checkedout():  # type: ignore[attr-defined]  # of QueuePool, not of its base class
            raise FileChangedError(f"{self.file.path} was replaced while in use; a query still reads the former file")
        await self.readers.dispose()
        try:
            await self._on_thread(self._open_again)
            for work in self._preparations:
                await self._on_thread(self._run, work)
        except BaseException as error:
            await self._on_thread(self._close)
            if isinstance(error, StartError):  # tables of newer code
                raise FileChangedError(str(error)) from None
            raise
        _log.warning("database_file_reopened", path=str(self.file.path), change=change.name.lower())

    def _open_first(self) -> None:
        """Create the file, readable by its owner only: it contains patients. Its companions get the same mode."""
        self.file.settle()
        os.close(os.open(self.file.path, os.O_RDWR | os.O_CREAT, 0o600))
        self._open()

    def _open_again(self) -> None:
        if not self.file.keep_lock():
            raise self.file.locked_by_another()
        change = self.file.change()
        if change is Change.COMPANIONS and self._engine is not None:
            if not self._checkpoint("PASSIVE"):
                raise FileChangedError(
                    f"{self.file.path}-wal was moved or deleted while a query of another program ran"
                )
            self._close()
            self.file.remove_companions()  # the file is complete, and others at the path are not its own
        self._close()
        if change is Change.REPLACED:
            self.file.detach_readers()
        self.file.settle()
        self._open()

    def _open(self) -> None:
        version = file_version(self.file.path)
        self._set_wal_mode()
        options = {"timeout": self._busy_seconds, "check_same_thread": False}
        engine = create_engine(
            _url(self.file, "sqlite"), poolclass=QueuePool, pool_size=1, max_overflow=0, connect_args=options
        )
        # A commit must not write into the file: no check could tell that from a write of another program.
        # Keep the rollback data of a statement of many rows in memory, not in a temporary file of patients.
        pragmas = ("synchronous=FULL", "wal_autocheckpoint=0", "temp_store=MEMORY")
        _prepare(engine, pragmas, begin="BEGIN IMMEDIATE")
        self._engine, self._rows_written = engine, 0
        with engine.begin():
            pass  # opens WAL and index
        self.file.adopt(version)

    def _set_wal_mode(self) -> None:
        """Change to WAL mode. SQLite does not wait for the lock of another program then, so this method retries."""
        deadline = time.monotonic() + self._busy_seconds
        with closing(sqlite3.connect(f"{self.file.uri}?mode=rw", uri=True)) as connection:
            while True:
                try:
                    connection.execute("PRAGMA journal_mode=WAL")
                except sqlite3.OperationalError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(_RETRY_SECONDS)
                else:
                    return

    def _run(self, work: Callable[[Connection], T]) -> T:
        if self._engine is None:
            raise self.file.changed(Change.REPLACED)
        try:
            with self._engine.begin() as connection:
                result = work(connection)
                rows = connection.connection.driver_connection.total_changes  # type: ignore[union-attr]  # sqlite3's
                self.file.check()
            self._last_commit = time.monotonic()
            self.file.check()
            if rows - self._rows_written >= _ROWS_PER_CHECKPOINT:
                self._rows_written = rows
                self._write_wal("PASSIVE")
        except BaseException:
            self._notice()
            raise
        return result

    def _maintain(self) -> None:
        self._notice()
        self.file.check()
        if not self.file.keep_lock():
            raise self.file.locked_by_another()
        if self._last_commit is None or time.monotonic() - self._last_commit < _IDLE_SECONDS:
            return
        if self._write_wal("TRUNCATE"):
            self._last_commit = None

    def _write_wal(self, mode: str) -> bool:
        """Write the WAL into the file that was just checked; return whether the file is complete."""
        complete = False
        with suppress(sqlite3.Error):  # a full disk: the next commit reports it
            complete = self._checkpoint(mode)
        self.file.written()
        return complete

    def _notice(self) -> None:
        """Put the file out of use if anything happened to it."""
        if self.file.change() is not Change.NONE:
            self.file.in_use = False

    def _checkpoint(self, mode: str) -> bool:
        """Write the WAL into the open file without waiting for readers; return whether the file is complete."""
        if self._engine is None:
            return False
        with closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout=0")
            try:
                busy, in_wal, written = cursor.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            finally:
                cursor.execute(f"PRAGMA busy_timeout={round(self._busy_seconds * 1000)}")
            return not busy and in_wal == written

    def _complete(self) -> None:
        """Write the WAL into the open file, which is complete then, wherever it was moved."""
        with suppress(sqlite3.Error, SQLAlchemyError):
            self._checkpoint("PASSIVE")

    def _close(self) -> None:
        if self._engine is None:
            return
        if self.file.change() is Change.CONTENT:  # of another program: it must not be mixed with our WAL
            with self.file.without_checkpoint():
                self._engine.dispose()
        else:
            self._complete()  # SQLite does so only at the path, and only without other readers
            self._engine.dispose()
        self._engine = None


def _readers(file: SqliteFile, *, size: int, busy_seconds: float) -> AsyncEngine:
    """Return an engine of at most `size` read-only connections to `file`, while its path leads to it."""
    engine = create_async_engine(
        _url(file, "sqlite+aiosqlite"),
        pool_size=size,
        max_overflow=0,
        json_deserializer=orjson.loads,
        connect_args={"timeout": busy_seconds},
    )
    _prepare(engine.sync_engine, ("query_only=1",), begin="BEGIN")

    @event.listens_for(engine.sync_engine, "checkout")
    def on_checkout(*_: object) -> None:
        file.check_reading()

    return engine


def _url(file: SqliteFile, driver: str) -> URL:
    """Return a URL that opens `file`, but never creates it."""
    return URL.create(driver, database=file.uri, query={"mode": "rw", "uri": "true"})


def _prepare(engine: Engine, pragmas: tuple[str, ...], *, begin: str) -> None:
    """Begin each transaction with `begin`, instead of the driver, and set `pragmas` on every connection."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's connection
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
