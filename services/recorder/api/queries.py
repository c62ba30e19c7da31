"""Queries of recorded predictions with the doctor's feedback: newest first, in pages, or one by its id.

Of several feedbacks on a prediction, the one that was recorded last counts. Its own time is the sender's word.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.recorder.api.models import MOST_FEEDBACK, Filtro
from services.recorder.db.tables import PREDICCIONES, RESULTADOS

_PREDICTION, _FEEDBACK = PREDICCIONES.c, RESULTADOS.c


class BadCursorError(Exception):
    """A cursor that no page returned."""


async def read_page(readers: AsyncEngine, filters: Filtro) -> tuple[list[dict[str, Any]], str | None]:
    """Return one page, and the cursor of the next or None at the end. `resultado` is a row's last feedback or None.

    The cursor holds the time and id of the last row. So the cost of a page does not depend on its number, and new rows
    do not shift pages.

    Raises:
        BadCursorError: the cursor cannot be read.

    """
    statement = (
        select(PREDICCIONES)
        .where(*_conditions(filters))
        .order_by(_PREDICTION.timestamp.desc(), _PREDICTION.id.desc())
        .limit(filters.limite + 1)
    )
    async with readers.connect() as connection:
        predictions = (await connection.execute(statement)).mappings().all()
        more = len(predictions) > filters.limite
        predictions = predictions[: filters.limite]
        feedback = await _last_feedback(connection, [row["id"] for row in predictions])
    rows = [{**row, "resultado": feedback.get(row["id"])} for row in predictions]
    return rows, _write_cursor(rows[-1]["timestamp"], rows[-1]["id"]) if more else None


async def read_one(readers: AsyncEngine, prediction_id: str) -> dict[str, Any] | None:
    """Return one prediction by its id (a canonical UUID) with its feedback, newest first; None if there is none."""
    async with readers.connect() as connection:
        found = await connection.execute(select(PREDICCIONES).where(_PREDICTION.id == prediction_id))
        row = found.mappings().one_or_none()
        if row is None:
            return None
        of_prediction = select(RESULTADOS).where(_FEEDBACK.prediccion_id == prediction_id)
        newest_first = of_prediction.order_by(_FEEDBACK.registrado.desc(), _FEEDBACK.id.desc()).limit(MOST_FEEDBACK)
        feedback = (await connection.execute(newest_first)).mappings().all()
    return {**row, "resultado": feedback[0] if feedback else None, "resultados": feedback}


async def is_recorded(readers: AsyncEngine, output: str) -> bool:
    """Return whether any prediction has this `output`."""
    async with readers.connect() as connection:
        row = await connection.execute(select(_PREDICTION.id).where(_PREDICTION.output == output).limit(1))
        return row.first() is not None


async def _last_feedback(connection: AsyncConnection, prediction_ids: Sequence[str]) -> dict[str, RowMapping]:
    """Return the last feedback on each of these predictions that has any, by the id of the prediction.

    The query selects ids, which are unique, so that PostgreSQL uses the indexes even before it has statistics.
    """
    feedback = RESULTADOS.alias("feedback")
    last = (
        select(feedback.c.id)
        .where(feedback.c.prediccion_id == _PREDICTION.id)
        .order_by(feedback.c.registrado.desc(), feedback.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    lasts = select(last).where(_PREDICTION.id.in_(prediction_ids))
    rows = await connection.execute(select(RESULTADOS).where(_FEEDBACK.id.in_(lasts)))
    return {row["prediccion_id"]: row for row in rows.mappings()}


def _conditions(filters: Filtro) -> list[ColumnElement[bool]]:
    equal = filters.model_dump(include={"output", "modelo_version", "referencia"}, exclude_none=True)
    conditions = [_PREDICTION[name] == value for name, value in equal.items()]
    if filters.desde is not None:
        conditions.append(_PREDICTION.timestamp >= filters.desde)
    if filters.hasta is not None:
        conditions.append(_PREDICTION.timestamp < filters.hasta)
    if filters.cursor is not None:
        conditions.append(tuple_(_PREDICTION.timestamp, _PREDICTION.id) < _read_cursor(filters.cursor))
    return conditions


def _write_cursor(moment: datetime, prediction_id: str) -> str:
    return base64.urlsafe_b64encode(f"{moment.isoformat()} {prediction_id}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[datetime, str]:
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
        moment, _, prediction_id = decoded.partition(" ")
        return datetime.fromisoformat(moment).astimezone(UTC), str(UUID(prediction_id))
    except (binascii.Error, ValueError, OverflowError):
        raise BadCursorError from None
