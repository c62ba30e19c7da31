"""The database: connections that write and read, and its errors in one line."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.recorder.db.migrate import Migrated, migrate
from services.recorder.db.postgres import PostgresWriter, postgres_readers
from services.recorder.db.sqlite import SqliteWriter, sqlite_readers
from shared.database_url import shown
from shared.web.hosting import StartError

DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""Every error of a database; connecting raises those of the driver, unwrapped."""
CONNECTIONS = 4
"""Connections that read; as many write on PostgreSQL."""
T = TypeVar("T")


class Writer(Protocol):
    """Runs transactions that write."""

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, all or nothing, and return its result."""


@dataclass(frozen=True, slots=True)
class Database:
    """An open, migrated database."""

    writer: Writer
    readers: AsyncEngine
    migrated: Migrated
    """The migration at its opening."""


def reason(error: BaseException) -> str:
    """Return the first line of a database's error; the others may quote values."""
    original = getattr(error, "orig", None) or error
    cause = original.__cause__ if isinstance(error, DBAPIError) and original.__cause__ else original
    return next(iter(str(cause).splitlines()), "") or type(cause).__name__


def rejects_values(error: BaseException) -> bool:
    """Return whether the database rejects a value (SQLSTATE classes 22 and 23), so that a retry cannot succeed."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return isinstance(error, DataError | IntegrityError) or state.startswith(("22", "23"))


@asynccontextmanager
async def open_database(url: URL, *, busy_seconds: float = 5, statement_seconds: float = 30) -> AsyncIterator[Database]:
    """Connect, create or upgrade the tables, and close the connections at the end.

    SQLite waits at most `busy_seconds` for the lock of another program; PostgreSQL cancels a statement after
    `statement_seconds`.

    Raises:
        StartError: the database cannot be reached, opened, written or upgraded.

    """
    writer: SqliteWriter | PostgresWriter
    if url.drivername == "sqlite":
        writer = SqliteWriter(url, busy_seconds=busy_seconds)
        readers = sqlite_readers(url, size=CONNECTIONS, busy_seconds=busy_seconds)
    else:
        writer = PostgresWriter(url, size=CONNECTIONS, statement_seconds=statement_seconds)
        readers = postgres_readers(url, size=CONNECTIONS, statement_seconds=statement_seconds)
    try:
        try:
            if isinstance(writer, SqliteWriter):
                writer.create()
            migrated = await writer.transaction(migrate)
        except DATABASE_ERRORS as error:
            message = f"cannot use the database {shown(url)}: {reason(error)}; {_advice(error, url)}"
            raise StartError(message) from None
        yield Database(writer, readers, migrated)
    finally:
        await readers.dispose()
        await writer.close()  # last: SQLite's last connection empties the WAL


def _advice(error: BaseException, url: URL) -> str:
    if isinstance(error, FileNotFoundError):
        return "create its folder, or change DATABASE_URL"
    if "not a database" in str(error) or "already exists" in str(error):
        return "another program's database: move it away, or change DATABASE_URL"
    return "check its permissions and its disk" if not url.host else "check that it runs and that DATABASE_URL is right"
