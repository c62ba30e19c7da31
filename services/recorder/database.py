"""Connections: one engine that writes and one that only reads, for SQLite and PostgreSQL alike.

SQLite has exactly one writing connection: before 3.51.3, two that write or checkpoint one WAL file can corrupt it
(https://www.sqlite.org/wal.html). It writes with synchronous=FULL, so a commit is on disk.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from services.recorder.migrate import migrate
from shared.hosting import StartError
from shared.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Connection

DATABASE_ERRORS = (SQLAlchemyError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""All that a database may answer instead of doing its work; connecting raises the driver's own, unwrapped."""
READERS = 4
_STATEMENT_SECONDS = 30
_CONNECT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Database:
    """An open, migrated database."""

    writer: AsyncEngine
    readers: AsyncEngine


def reason(error: BaseException) -> str:
    """Say in one line what a database answered; details that could quote values are in later lines and left out."""
    original = getattr(error, "orig", None) or error
    cause = original.__cause__ if isinstance(error, DBAPIError) and original.__cause__ else original
    return next(iter(str(cause).splitlines()), "") or type(cause).__name__


def refuses_values(error: BaseException) -> bool:
    """Whether the fault is in what was written (SQLSTATE classes 22 and 23), so that trying again cannot help."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return isinstance(error, DataError | IntegrityError) or state.startswith(("22", "23"))


def read_url(text: str) -> URL:
    """Check `DATABASE_URL` and name the async driver.

    Raises:
        SettingsError: it has neither of the two forms.

    """
    try:
        url = make_url(text)
        port_is_number = url.port is None or url.port > 0
    except (ArgumentError, ValueError):
        url, port_is_number = URL.create("none"), False
    if port_is_number and not url.query and url.database and not url.database.startswith(":"):
        if url.drivername == "sqlite" and not url.host:
            return url.set(drivername="sqlite+aiosqlite")
        if url.drivername == "postgresql" and url.host and url.username:
            return url.set(drivername="postgresql+asyncpg")
    message = (
        "settings: DATABASE_URL: expected sqlite:///./predicciones.db or "
        "postgresql://user:password@host:5432/database (see .env.example)"
    )
    raise SettingsError(message)


@asynccontextmanager
async def open_database(url: URL, *, busy_seconds: float = 5) -> AsyncIterator[Database]:
    """Connect, create or upgrade the tables, and close everything at the end.

    `busy_seconds` is how long SQLite waits while another program holds its lock.

    Raises:
        StartError: it cannot be reached, opened, written or upgraded.

    """
    lite = url.get_backend_name() == "sqlite"
    writer = _engine(url, writes=True, size=1 if lite else READERS, busy_seconds=busy_seconds)
    readers = _engine(url, writes=False, size=READERS, busy_seconds=busy_seconds)
    try:
        try:
            if lite:
                _create_private(Path(url.database or ""))
            async with writer.begin() as connection:
                await connection.run_sync(migrate)
        except DATABASE_ERRORS as error:
            message = f"cannot use the database {_shown(url)}: {reason(error)}; {_advice(error, lite=lite)}"
            raise StartError(message) from None
        yield Database(writer, readers)
    finally:
        await readers.dispose()
        await writer.dispose()  # last: SQLite's last connection empties the WAL


def _engine(url: URL, *, writes: bool, size: int, busy_seconds: float) -> AsyncEngine:
    common: dict[str, Any] = {
        "poolclass": AsyncAdaptedQueuePool,
        "pool_size": size,
        "max_overflow": 0,
        "json_deserializer": orjson.loads,
    }
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, connect_args={"timeout": busy_seconds}, **common)
        _prepare_sqlite(engine, writes=writes)
        return engine
    name = "predecir-recorder" if writes else "predecir-recorder-read"
    session = {"application_name": name, "timezone": "UTC"}
    if not writes:
        session["default_transaction_read_only"] = "on"
        common["isolation_level"] = "REPEATABLE READ"  # one page or one account is one moment
    connect = {"server_settings": session, "timeout": _CONNECT_SECONDS, "command_timeout": _STATEMENT_SECONDS}
    return create_async_engine(url, connect_args=connect, pool_pre_ping=True, **common)


def _prepare_sqlite(engine: AsyncEngine, *, writes: bool) -> None:
    pragmas = ("journal_mode=WAL", "synchronous=FULL") if writes else ("query_only=1",)
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's connection
        connection.isolation_level = None  # transactions begin where we say so, not where the driver guesses
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def began(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _create_private(path: Path) -> None:
    """Patients' data: readable by its owner only. SQLite gives its companion files the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _shown(url: URL) -> str:
    return str(url.database) if not url.host else f"{url.database} on {url.host} port {url.port or 5432}"


def _advice(error: BaseException, *, lite: bool) -> str:
    if isinstance(error, FileNotFoundError):
        return "create its folder, or change DATABASE_URL"
    if "not a database" in str(error) or "already exists" in str(error):
        return "it is not ours: move it away, or change DATABASE_URL"
    return "check its permissions and its disk" if lite else "check that it runs and that DATABASE_URL is right"
