"""PostgreSQL: a pool of connections that write, and a pool of read-only ones."""

from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from shared.database_url import connect_arguments

T = TypeVar("T")
_CONNECT_SECONDS = 5


class PostgresWriter:
    """Runs at most `size` transactions at once."""

    def __init__(self, url: URL, *, size: int, statement_seconds: float) -> None:
        """Write to `url`; a statement is cancelled after `statement_seconds`."""
        self._engine = _engine(url, "predecir-recorder", size=size, statement_seconds=statement_seconds)

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction. Cancelling it can leak the connection: shield it."""
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def at_opening(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; a server is opened once."""
        return await self.transaction(work)

    async def maintain(self) -> None:
        """Do nothing: the server maintains its files itself."""

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()


def postgres_readers(url: URL, *, size: int, statement_seconds: float) -> AsyncEngine:
    """Return an engine of at most `size` read-only connections to `url`; each transaction reads one snapshot."""
    return _engine(
        url,
        "predecir-recorder-read",
        read_only=True,
        size=size,
        statement_seconds=statement_seconds,
        isolation_level="REPEATABLE READ",
    )


def _engine(
    url: URL,
    name: str,
    *,
    size: int,
    statement_seconds: float,
    read_only: bool = False,
    **options: Any,  # noqa: ANN401 - SQLAlchemy's
) -> AsyncEngine:
    connect = connect_arguments(url, application_name=name, connect_seconds=_CONNECT_SECONDS, read_only=read_only)
    connect["server_settings"]["timezone"] = "UTC"
    connect["command_timeout"] = statement_seconds
    return create_async_engine(
        url.set(drivername="postgresql+asyncpg", query={}),
        pool_size=size,
        max_overflow=0,
        pool_pre_ping=True,
        json_deserializer=orjson.loads,
        connect_args=connect,
        **options,
    )
