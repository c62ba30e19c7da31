"""SQLite: one file, one writing connection in its own thread, and a pool of read-only connections.

There is one writing connection because, before SQLite 3.51.3, two that write or checkpoint one WAL file can corrupt it
(https://www.sqlite.org/wal.html). It uses synchronous=FULL, so a commit is on disk.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

T = TypeVar("T")
_RETRY_SECONDS = 0.01


class SqliteWriter:
    """Runs transactions one after the other on one connection and one thread.

    A whole transaction is one call on that thread. In the local profile the gateway's event loop shares the process:
    each call, and each statement, has to win the interpreter lock back from it.
    """

    def __init__(self, url: URL, *, busy_seconds: float) -> None:
        """Write to `url`; wait at most `busy_seconds` for the lock of another program."""
        options = {"timeout": busy_seconds, "check_same_thread": False}
        engine = create_engine(
            url.set(drivername="sqlite"), poolclass=QueuePool, pool_size=1, max_overflow=0, connect_args=options
        )
        # Keep the rollback data of a statement of many rows in memory, not in a temporary file of patients.
        _prepare(engine, ("synchronous=FULL", "temp_store=MEMORY"), begin="BEGIN IMMEDIATE")
        self._engine = engine
        self._path = Path(url.database or "")
        self._busy_seconds = busy_seconds
        self._thread = ThreadPoolExecutor(1, "recorder-writer")

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, which ends even if the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def close(self) -> None:
        """Wait for the running transaction, and close the connection."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()

    def create(self) -> None:
        """Create the file in WAL mode, readable by its owner only: it contains patients.

        SQLite's companion files get the same mode. When SQLite changes to WAL mode, it does not wait for the lock of
        another recorder that starts, so this method retries.
        """
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        deadline = time.monotonic() + self._busy_seconds
        with closing(sqlite3.connect(self._path)) as connection:
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
        with self._engine.begin() as connection:
            return work(connection)


def sqlite_readers(url: URL, *, size: int, busy_seconds: float) -> AsyncEngine:
    """Return an engine of at most `size` read-only connections to `url`."""
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        pool_size=size,
        max_overflow=0,
        json_deserializer=orjson.loads,
        connect_args={"timeout": busy_seconds},
    )
    _prepare(engine.sync_engine, ("query_only=1",), begin="BEGIN")
    return engine


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
