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

from services.recorder.db.migrate import Migrated, migrate, revision
from services.recorder.db.postgres import PostgresWriter, postgres_readers
from services.recorder.db.sqlite import SqliteWriter
from services.recorder.db.sqlite_file import FileChangedError
from shared.database_url import shown
from shared.web.hosting import StartError

DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""Every error of a database; connecting raises those of the driver, unwrapped."""
_UNUSABLE_FILE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
CONNECTIONS = 4
"""Connections that read; as many write on PostgreSQL."""
T = TypeVar("T")


class Writer(Protocol):
    """Runs transactions that write."""

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, all or nothing, and return its result."""

    async def at_opening(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction now, and again whenever another SQLite file is opened; return its result."""

    async def maintain(self) -> None:
        """Do what is due between transactions; call it about once a second. It raises an error of `transaction`."""


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
    """Return whether the database rejects a value (SQLSTATE classes 22, 23, 54), so that a retry cannot succeed."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return isinstance(error, DataError | IntegrityError) or state.startswith(("22", "23", "54"))


def is_unusable(error: BaseException) -> bool:
    """Return whether the connection is gone or the file cannot be used, so that no other statement can succeed now.

    SQLite may have rolled back the whole transaction then (https://www.sqlite.org/lang_transaction.html).
    """
    if isinstance(error, DBAPIError):
        code = getattr(error.orig, "sqlite_errorcode", None)
        return error.connection_invalidated or (code is not None and code & 0xFF in _UNUSABLE_FILE)
    return isinstance(error, DATABASE_ERRORS)


@asynccontextmanager
async def open_database(
    url: URL, *, busy_seconds: float = 5, statement_seconds: float = 30, writes: bool = True
) -> AsyncIterator[Database]:
    """Connect, create or upgrade the tables, and close the connections at the end.

    SQLite waits at most `busy_seconds` for the lock of another program; PostgreSQL cancels a statement after
    `statement_seconds`. If another recorder has the SQLite file open, only a caller that never `writes` may open it,
    too; its tables are as they are then.

    Raises:
        StartError: the database cannot be reached, opened, written or upgraded, or another recorder has its file open.

    """
    writer: SqliteWriter | PostgresWriter
    if url.drivername == "sqlite":
        writer = SqliteWriter(url, readers=CONNECTIONS, busy_seconds=busy_seconds)
        readers, opening = writer.readers, _open_sqlite(writer, writes=writes)
    else:
        writer = PostgresWriter(url, size=CONNECTIONS, statement_seconds=statement_seconds)
        readers = postgres_readers(url, size=CONNECTIONS, statement_seconds=statement_seconds)
        opening = writer.at_opening(migrate)
    try:
        try:
            migrated = await opening
        except FileChangedError as error:
            raise StartError(str(error)) from None
        except DATABASE_ERRORS as error:
            message = f"cannot use the database {shown(url)}: {reason(error)}; {_advice(error, url)}"
            raise StartError(message) from None
        yield Database(writer, readers, migrated)
    finally:
        await readers.dispose()
        await writer.close()


async def _open_sqlite(writer: SqliteWriter, *, writes: bool) -> Migrated:
    if writer.file.lock():
        await writer.open()
        return await writer.at_opening(migrate)
    if writes:
        message = (
            f"{writer.file.path}: another Predecir has this database open; stop it first"
            " (several recorders need PostgreSQL, see DATABASE_URL)"
        )
        raise StartError(message)
    async with writer.readers.connect() as connection:
        current = await connection.run_sync(revision)
    return Migrated(current, current)


def _advice(error: BaseException, url: URL) -> str:
    if isinstance(error, FileNotFoundError):
        return "create its folder, or change DATABASE_URL"
    if "not a database" in str(error) or "already exists" in str(error):
        return "another program's database: move it away, or change DATABASE_URL"
    return "check its permissions and its disk" if not url.host else "check that it runs and that DATABASE_URL is right"
