"""What the recorder has recorded, read as an analyst would: in plain SQL, without writing and without its code."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from pydantic import ValidationError
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

    from shared.patient import Patient

_AT_ONCE = 1000
_CONNECT_SECONDS = 10
_READ_SECONDS = 600
_PREDICTIONS = text(
    "SELECT CAST(inputs AS TEXT), output, modelo_digest FROM predicciones "
    "WHERE timestamp >= :since AND modelo = :model AND paciente_digest = :digest"
)
_OUTCOMES = text(
    "SELECT r.prediccion_id, p.output, r.aceptada, r.diagnostico FROM resultados AS r "
    "JOIN predicciones AS p ON p.id = r.prediccion_id "
    "WHERE p.timestamp >= :since AND p.modelo = :model AND p.paciente_digest = :digest "
    "AND p.modelo_digest = :answered_by "
    "ORDER BY r.timestamp"
)
_PREDICTION = (
    "SELECT id, CAST(timestamp AS TEXT), CAST(inputs AS TEXT), output, CAST(probabilidades AS TEXT), modelo, "
    "modelo_version, modelo_digest, paciente_digest, gateway_id, hash, referencia, CAST(plausibles AS TEXT) "
    "FROM predicciones WHERE id = "
)


class Prediction(NamedTuple):
    """One recorded answer; `inputs`, `probabilities`, `plausible` are JSON text, digests and `hash` SHA-256 in hex."""

    id: str
    time: str
    inputs: str
    output: str
    probabilities: str
    model: str
    version: str
    digest: str
    patient_digest: str
    gateway: str
    hash: str
    reference: str | None
    plausible: str | None


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
        """Give (inputs as JSON text, output, digest of the model) in chunks, in no order."""
        async with self._connection.stream(_PREDICTIONS, self._values(asked)) as rows:
            async for chunk in rows.partitions(_AT_ONCE):
                yield [(inputs, output, digest) for inputs, output, digest in chunk]

    async def outcomes(self, asked: Asked, digest: str) -> list[bool]:
        """Say of each prediction with an outcome whether the doctor agreed; the last outcome counts.

        Only predictions of the model of that `digest` count: a version's number comes again in a registry begun anew.
        """
        last: dict[str, bool] = {}
        async with self._connection.stream(_OUTCOMES, {**self._values(asked), "answered_by": digest}) as rows:
            async for prediction, output, accepted, diagnosis in rows:
                last[str(prediction)] = bool(accepted) or diagnosis == output
        return list(last.values())

    async def prediction(self, identifier: str) -> Prediction | None:
        """Give the prediction with this id, a canonical UUID, if it is there."""
        given = "CAST(:id AS uuid)" if self._connection.dialect.name == "postgresql" else ":id"
        found = (await self._connection.execute(text(_PREDICTION + given), {"id": identifier})).one_or_none()
        return None if found is None else Prediction(str(found[0]), *found[1:])

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


def read_patient(patient: type[Patient], inputs: str) -> Patient:
    """Read the `inputs` of a row.

    Raises:
        DatabaseError: no patient of this class can have them; names the fields.

    """
    try:
        return patient.model_validate_json(inputs)
    except ValidationError as error:
        fields = {".".join(map(str, e["loc"])) for e in error.errors(include_input=False, include_url=False)}
        message = f"predicciones: a row was changed after it was recorded; no patient can have its {', '.join(fields)}"
        raise DatabaseError(message) from None


def place(url: str) -> str:
    """Name the database at `url`, which `recorded` has opened, without its user and password."""
    given = make_url(url)
    return f"{given.host}/{given.database}" if given.host else str(given.database)


def _check_file(path: Path) -> None:
    """Refuse a file that cannot be opened: the driver's thread outlives that failure, and dies of it with a traceback.

    Raises:
        DatabaseError: it cannot be.

    """
    try:
        path.open("rb").close()
    except OSError as error:
        message = f"DATABASE_URL: the predictions there cannot be read: {path}: {error.strerror}"
        raise DatabaseError(message) from None


def _engine(text_url: str) -> AsyncEngine:
    """Give an engine that reads only; a file that is not there is not made."""
    try:
        url = make_url(text_url)
    except ArgumentError:
        url = URL.create("none")
    if url.drivername == "sqlite" and url.database:
        _check_file(Path(url.database))
        given = {"mode": "ro", "uri": "true"}
        url = URL.create("sqlite+aiosqlite", database=f"file:{quote(url.database)}", query=given)
        return create_async_engine(url, poolclass=NullPool)
    if url.drivername == "postgresql":
        waits = {"timeout": _CONNECT_SECONDS, "command_timeout": _READ_SECONDS}
        session = {"application_name": "predecir-training", "default_transaction_read_only": "on"}
        return create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            poolclass=NullPool,
            connect_args={**waits, "server_settings": session},
        )
    message = (
        "settings: DATABASE_URL: expected sqlite:///./predicciones.db or postgresql://user:password@host:5432/database"
    )
    raise SettingsError(message)
