"""What the recorder has recorded, read as an analyst would: in plain SQL, without writing and without its code."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shared.settings import SettingsError
from training.errors import DatabaseError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_AT_ONCE = 1000
_CONNECT_SECONDS = 10
_READ_SECONDS = 600
_PREDICTIONS = text(
    "SELECT CAST(inputs AS TEXT), output, modelo_version FROM predicciones "
    "WHERE timestamp >= :since AND modelo = :model AND paciente_digest = :digest"
)
_OUTCOMES = text(
    "SELECT r.prediccion_id, p.output, r.aceptada, r.diagnostico FROM resultados AS r "
    "JOIN predicciones AS p ON p.id = r.prediccion_id "
    "WHERE p.timestamp >= :since AND p.modelo = :model AND p.paciente_digest = :digest AND p.modelo_version = :version "
    "ORDER BY r.timestamp"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which predictions are meant: those of one model and patient class, since a moment."""

    model: str
    patient_digest: str
    since: dt.datetime


class Recorded:
    """An open database of predictions."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Read over `connection`."""
        self._connection = connection

    async def predictions(self, asked: Asked) -> AsyncIterator[list[tuple[str, str, str]]]:
        """Give (inputs as JSON text, output, model version) in chunks, in no order."""
        async with self._connection.stream(_PREDICTIONS, self._values(asked)) as rows:
            async for chunk in rows.partitions(_AT_ONCE):
                yield [(inputs, output, version) for inputs, output, version in chunk]

    async def outcomes(self, asked: Asked, version: str) -> list[bool]:
        """Say of each prediction of `version` with an outcome whether the doctor agreed; the last outcome counts."""
        last: dict[str, bool] = {}
        async with self._connection.stream(_OUTCOMES, {**self._values(asked), "version": version}) as rows:
            async for prediction, output, accepted, diagnosis in rows:
                last[str(prediction)] = bool(accepted) or diagnosis == output
        return list(last.values())

    def _values(self, asked: Asked) -> dict[str, Any]:
        since = asked.since.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"  # as SQLite's column has it
        is_text = self._connection.dialect.name == "sqlite"
        return {"since": since if is_text else asked.since, "model": asked.model, "digest": asked.patient_digest}


@asynccontextmanager
async def recorded(url: str) -> AsyncIterator[Recorded]:
    """Open the database at `url`, a `DATABASE_URL`, for reading.

    Raises:
        SettingsError: it is none.
        DatabaseError: it cannot be read.

    """
    engine = _engine(url)
    try:
        async with engine.connect() as connection:
            yield Recorded(connection)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        said = str(getattr(error, "orig", None) or error).partition("\n")[0]  # what quotes values is in later lines
        message = f"DATABASE_URL: the predictions there cannot be read: {said or type(error).__name__}"
        raise DatabaseError(message) from None
    finally:
        await engine.dispose()


def _engine(text_url: str) -> AsyncEngine:
    """Give an engine that reads only; a file that is not there is not made."""
    try:
        url = make_url(text_url)
    except ArgumentError:
        url = URL.create("none")
    if url.drivername == "sqlite" and url.database:
        given = {"mode": "ro", "uri": "true"}
        url = URL.create("sqlite+aiosqlite", database=f"file:{quote(url.database)}", query=given)
        return create_async_engine(url, poolclass=NullPool)
    if url.drivername == "postgresql":
        waits = {"timeout": _CONNECT_SECONDS, "command_timeout": _READ_SECONDS}
        session = {"application_name": "predecir-trigger", "default_transaction_read_only": "on"}
        return create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            poolclass=NullPool,
            connect_args={**waits, "server_settings": session},
        )
    message = (
        "settings: DATABASE_URL: expected sqlite:///./predicciones.db or postgresql://user:password@host:5432/database"
    )
    raise SettingsError(message)
