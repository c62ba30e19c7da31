"""The recorder's database, read only, in plain SQL: recorded predictions and the doctors' outcomes."""

import datetime as dt
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from shared.database_url import connect_arguments
from shared.patient import Patient
from training.errors import DatabaseError

_CHUNK_ROWS = 100
"""Rows in memory: an event that a hostile gateway made up may have 1 MiB."""
_CONNECT_SECONDS = 10
_READ_SECONDS = 600
MOST_ROWS = 1_000_000
"""Predictions, and outcomes, that are read at most: the newest of the window."""
_PREDICTIONS = text(
    "SELECT CAST(id AS TEXT), CAST(inputs AS TEXT), output, modelo_digest FROM predicciones "
    "WHERE timestamp >= :since AND modelo = :model AND paciente_digest = :digest "
    "ORDER BY timestamp DESC LIMIT :most"
)
_OUTCOMES = text(
    "SELECT r.prediccion_id, p.output, CAST(p.plausibles AS TEXT), r.aceptada, r.diagnostico FROM resultados AS r "
    "JOIN predicciones AS p ON p.id = r.prediccion_id "
    "WHERE p.timestamp >= :since AND p.modelo = :model AND p.paciente_digest = :digest "
    "AND p.modelo_digest = :answered_by "
    "ORDER BY r.registrado DESC, r.id DESC LIMIT :most"
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
class PredictionFilter:
    """Selects the predictions of one model and patient class since a moment."""

    model: str
    patient_digest: str
    since: dt.datetime


class RecentPrediction(NamedTuple):
    """One recent answer; `inputs` is JSON text, `digest` that of the model."""

    id: str
    inputs: str
    output: str
    digest: str


class PredictionDatabase:
    """An open database of predictions; it reads the newest `most_rows` of what is selected."""

    def __init__(self, connection: AsyncConnection, most_rows: int = MOST_ROWS) -> None:
        """Read over `connection`."""
        self._connection, self._most_rows = connection, most_rows

    async def predictions(self, selected: PredictionFilter) -> AsyncIterator[list[RecentPrediction]]:
        """Yield chunks of predictions, the newest first."""
        async with self._connection.stream(_PREDICTIONS, self._values(selected)) as rows:
            async for chunk in rows.partitions(_CHUNK_ROWS):
                yield [RecentPrediction(*row) for row in chunk]

    async def doctors_agreed(self, selected: PredictionFilter, digest: str) -> tuple[list[bool], list[str]]:
        """Return, for each conclusive prediction with an outcome, whether the doctor agreed; the last outcome counts.

        The second list has the ids of predictions that cannot be read. The last outcome is the one recorded last. Only
        predictions of the model with that `digest` count: a new registry starts again with version 1. An answer with
        several plausible diagnoses names them all, so another one than the likeliest is no error of the model.
        """
        last: dict[str, bool | None] = {}
        unreadable = []
        async with self._connection.stream(_OUTCOMES, {**self._values(selected), "answered_by": digest}) as rows:
            async for prediction, output, plausible, accepted, diagnosis in rows:
                if (name := str(prediction)) in last:
                    continue
                conclusive = _is_conclusive(plausible)
                last[name] = (bool(accepted) or diagnosis == output) if conclusive else None
                if conclusive is None:
                    unreadable.append(name)
        return [agreed for agreed in last.values() if agreed is not None], unreadable

    async def prediction(self, identifier: str) -> Prediction | None:
        """Return the prediction with this id, a canonical UUID, or None."""
        parameter = "CAST(:id AS uuid)" if self._connection.dialect.name == "postgresql" else ":id"
        row = (await self._connection.execute(text(_PREDICTION + parameter), {"id": identifier})).one_or_none()
        return None if row is None else Prediction(str(row[0]), *row[1:])

    def _values(self, selected: PredictionFilter) -> dict[str, Any]:
        since: dt.datetime | str = selected.since
        if self._connection.dialect.name == "sqlite":  # timestamps are text there
            since = selected.since.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        return {
            "since": since,
            "model": selected.model,
            "digest": selected.patient_digest,
            "most": self._most_rows,
        }


@asynccontextmanager
async def open_predictions(url: URL, most_rows: int = MOST_ROWS) -> AsyncIterator[PredictionDatabase]:
    """Open the database at `url`, as `shared.database_url.read_url` returns it, for reading.

    Raises:
        DatabaseError: the database cannot be read.

    """
    engine = _engine(url)
    try:
        async with engine.connect() as connection:
            yield PredictionDatabase(connection, most_rows)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]  # later lines may quote values
        message = f"DATABASE_URL: the predictions there cannot be read: {reason or type(error).__name__}"
        raise DatabaseError(message) from None
    finally:
        await engine.dispose()


def parse_patient(patient: type[Patient], inputs: str) -> Patient:
    """Parse the `inputs` of a row.

    Raises:
        DatabaseError: they are not valid for this class; the message names the fields.

    """
    try:
        return patient.model_validate_json(inputs)
    except ValidationError as error:
        fields = {".".join(map(str, e["loc"])) for e in error.errors(include_input=False, include_url=False)}
        message = f"predicciones: a row was changed after it was recorded; no patient can have its {', '.join(fields)}"
        raise DatabaseError(message) from None


def _is_conclusive(plausible: str | None) -> bool | None:
    """Return whether one diagnosis is plausible, by JSON text, or None if that cannot be read.

    Without a text the model has no sets, and every answer counts.
    """
    try:
        return plausible is None or len(json.loads(plausible)) == 1
    except (ValueError, TypeError, RecursionError):
        return None


def _check_file(path: Path) -> None:
    """Raise if the file cannot be opened. The driver would fail in a thread that ends with a traceback.

    Raises:
        DatabaseError: it cannot be opened.

    """
    try:
        path.open("rb").close()
    except OSError as error:
        message = f"DATABASE_URL: the predictions there cannot be read: {path}: {error.strerror}"
        raise DatabaseError(message) from None


def _engine(url: URL) -> AsyncEngine:
    """Return an engine that only reads and does not create a missing file."""
    if url.drivername == "sqlite":
        database = url.database or ""
        _check_file(Path(database))
        options = {"mode": "ro", "uri": "true"}
        url = URL.create("sqlite+aiosqlite", database=f"file:{quote(database)}", query=options)
        return create_async_engine(url, poolclass=NullPool)
    connect = connect_arguments(
        url, application_name="predecir-training", connect_seconds=_CONNECT_SECONDS, read_only=True
    )
    connect["command_timeout"] = _READ_SECONDS
    return create_async_engine(
        url.set(drivername="postgresql+asyncpg", query={}), poolclass=NullPool, connect_args=connect
    )
