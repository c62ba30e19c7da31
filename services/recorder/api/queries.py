"""Queries of recorded predictions with the doctor's feedback: newest first, in pages, or one by its id.

Of several feedbacks on a prediction, the one that was recorded last counts. Its own time is the sender's word. A value
that is not of its column's type is `UNREADABLE`, and the rows beside it are read.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, RowMapping, Text, cast, func, literal, select, tuple_, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.recorder.api.models import MOST_FEEDBACK, Filtro
from services.recorder.db.tables import PREDICCIONES, RESULTADOS
from services.recorder.db.types import UUID_TEXT, lenient

_PREDICTION, _FEEDBACK = PREDICCIONES.c, RESULTADOS.c
_PREDICTIONS, _FEEDBACKS = (
    select(*(lenient(column).label(column.name) for column in table.c)) for table in (PREDICCIONES, RESULTADOS)
)
LONGEST_PAGE = 4 << 20
"""Characters of documents in one page, which take about twenty times as much memory. A usual row has a thousand."""
_LENGTH = sum(
    (
        func.coalesce(func.length(cast(column, Text)), 0)
        for column in (_PREDICTION.inputs, _PREDICTION.probabilidades, _PREDICTION.plausibles)
    ),
    start=literal(0),
)
_STORED_TIME = "stored_time"
"""The time of a row as text, for the cursor after a row whose time is unreadable."""
_RAW = "="
"""Begins such a cursor."""
_INFINITIES = {"infinity", "-infinity"}
"""What PostgreSQL has instead of an unreadable time."""


class BadCursorError(Exception):
    """A cursor that no page returned."""


async def read_page(readers: AsyncEngine, filters: Filtro) -> tuple[list[dict[str, Any]], str | None]:
    """Return one page, and the cursor of the next or None at the end. `resultado` is a row's last feedback or None.

    The cursor holds the time and id of the last row. So the cost of a page does not depend on its number, and new rows
    do not shift pages. A page of long rows has fewer than `filters.limite` (`LONGEST_PAGE`).

    Raises:
        BadCursorError: the cursor cannot be read.

    """
    conditions = _conditions(filters, readers.dialect.name)
    newest_first = _PREDICTION.timestamp.desc(), _PREDICTION.id.desc()
    lengths = select(_LENGTH).where(*conditions).order_by(*newest_first).limit(filters.limite + 1)
    statement = _PREDICTIONS.add_columns(cast(_PREDICTION.timestamp, Text).label(_STORED_TIME)).where(*conditions)
    async with readers.connect() as connection:  # one transaction: both queries read the same rows
        available = (await connection.execute(lengths)).scalars().all()
        size = _page_size(available[: filters.limite])
        more = len(available) > size
        predictions = (await connection.execute(statement.order_by(*newest_first).limit(size))).mappings().all()
        feedback = await _last_feedback(connection, [row["id"] for row in predictions])
    rows = [{**row, "resultado": feedback.get(row["id"])} for row in predictions]
    return rows, _write_cursor(rows[-1]) if more else None


def _page_size(lengths: Sequence[int]) -> int:
    """Return how many of the first rows make a page: at least one, and as many more as `LONGEST_PAGE` allows."""
    return max(1, sum(total <= LONGEST_PAGE for total in accumulate(lengths)))


async def read_one(readers: AsyncEngine, prediction_id: str) -> dict[str, Any] | None:
    """Return one prediction by its id (a canonical UUID) with its feedback, newest first; None if there is none."""
    async with readers.connect() as connection:
        found = await connection.execute(_PREDICTIONS.where(_PREDICTION.id == prediction_id))
        row = found.mappings().one_or_none()
        if row is None:
            return None
        of_prediction = _FEEDBACKS.where(_FEEDBACK.prediccion_id == prediction_id)
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
    rows = await connection.execute(_FEEDBACKS.where(_FEEDBACK.id.in_(lasts)))
    return {row["prediccion_id"]: row for row in rows.mappings()}


def _conditions(filters: Filtro, dialect: str) -> list[ColumnElement[bool]]:
    equal = filters.model_dump(include={"output", "modelo_version", "referencia"}, exclude_none=True)
    conditions = [_PREDICTION[name] == value for name, value in equal.items()]
    if filters.desde is not None:
        conditions.append(_PREDICTION.timestamp >= filters.desde)
    if filters.hasta is not None:
        conditions.append(_PREDICTION.timestamp < filters.hasta)
    if filters.cursor is not None:
        conditions.append(_after(filters.cursor, dialect))
    return conditions


def _write_cursor(row: dict[str, Any]) -> str:
    moment, prediction_id = row["timestamp"], row["id"]
    if isinstance(moment, datetime) and _is_uuid(prediction_id):
        position = f"{moment.isoformat()} {prediction_id}"
    else:
        position = f"{_RAW}{row[_STORED_TIME]} {prediction_id}"
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _after(cursor: str, dialect: str) -> ColumnElement[bool]:
    """Return the condition of the rows after `cursor`."""
    try:
        position = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        if position.startswith(_RAW):
            return _after_raw(*position.removeprefix(_RAW).rsplit(" ", 1), dialect=dialect)
        moment, _, prediction_id = position.partition(" ")
        place = (datetime.fromisoformat(moment).astimezone(UTC), str(UUID(prediction_id)))
        return tuple_(_PREDICTION.timestamp, _PREDICTION.id) < place
    except (binascii.Error, ValueError, OverflowError, TypeError):
        raise BadCursorError from None


def _after_raw(stored: str, prediction_id: str, *, dialect: str) -> ColumnElement[bool]:
    """Return the condition of the rows after one whose time, or id, is not of its type; SQLite compares texts."""
    if dialect == "sqlite":
        return tuple_(type_coerce(_PREDICTION.timestamp, Text), _PREDICTION.id) < (stored, prediction_id)
    if stored not in _INFINITIES:
        raise ValueError("no time that cannot be read")
    moment = cast(literal(stored, Text), DateTime(timezone=True))
    return tuple_(_PREDICTION.timestamp, _PREDICTION.id) < tuple_(moment, literal(str(UUID(prediction_id)), UUID_TEXT))


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
