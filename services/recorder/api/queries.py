"""Reading recorded predictions, newest first, page by page, each with what the doctor said of it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import ColumnElement, select, tuple_

from services.recorder.db.tables import PREDICCIONES, RESULTADOS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_TABLE, _OUTCOME = PREDICCIONES.c, RESULTADOS.c
MOST_OUTCOMES = 100
"""Outcomes that are read with one prediction."""


class BadCursorError(Exception):
    """A cursor that no page gave."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which predictions: `since` inclusive, `until` exclusive, after the row `cursor` points at; None is any."""

    limit: int
    since: datetime | None = None
    until: datetime | None = None
    output: str | None = None
    model_version: str | None = None
    reference: str | None = None
    cursor: str | None = None


async def read_page(readers: AsyncEngine, wanted: Wanted) -> tuple[list[dict[str, Any]], str | None]:
    """Read one page and the cursor of the next, or None at the end. A row's `resultado` is its last outcome, or None.

    The cursor is the last row's place in the order, so a page costs the same however deep it is, and rows that arrive
    meanwhile shift nothing.

    Raises:
        BadCursorError: the cursor cannot be read.

    """
    statement = (
        select(PREDICCIONES)
        .where(*_conditions(wanted))
        .order_by(_TABLE.timestamp.desc(), _TABLE.id.desc())
        .limit(wanted.limit + 1)
    )
    async with readers.connect() as connection:
        found = (await connection.execute(statement)).mappings().all()
        outcomes = await _last_outcomes(connection, [row["id"] for row in found[: wanted.limit]])
    rows = [{**row, "resultado": outcomes.get(row["id"])} for row in found[: wanted.limit]]
    more = len(found) > wanted.limit
    return rows, _write_cursor(rows[-1]["timestamp"], rows[-1]["id"]) if more else None


async def read_one(readers: AsyncEngine, prediction_id: str) -> dict[str, Any] | None:
    """Read one prediction by its id (a canonical UUID), with its last outcomes, newest first."""
    async with readers.connect() as connection:
        row = (
            (await connection.execute(select(PREDICCIONES).where(_TABLE.id == prediction_id))).mappings().one_or_none()
        )
        if row is None:
            return None
        said = select(RESULTADOS).where(_OUTCOME.prediccion_id == prediction_id)
        newest_first = said.order_by(_OUTCOME.timestamp.desc(), _OUTCOME.id.desc()).limit(MOST_OUTCOMES)
        outcomes = (await connection.execute(newest_first)).mappings().all()
    return {**row, "resultado": outcomes[0] if outcomes else None, "resultados": outcomes}


async def _last_outcomes(connection: AsyncConnection, prediction_ids: Sequence[str]) -> dict[str, RowMapping]:
    """Read the last outcome of each of these predictions that has one.

    By way of ids, which are unique: then PostgreSQL takes the indexes even before it has statistics of the table.
    """
    said = RESULTADOS.alias("said")
    last = (
        select(said.c.id)
        .where(said.c.prediccion_id == _TABLE.id)
        .order_by(said.c.timestamp.desc(), said.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    lasts = select(last).where(_TABLE.id.in_(prediction_ids))
    found = await connection.execute(select(RESULTADOS).where(_OUTCOME.id.in_(lasts)))
    return {row["prediccion_id"]: row for row in found.mappings()}


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        conditions.append(_TABLE.timestamp >= wanted.since)
    if wanted.until is not None:
        conditions.append(_TABLE.timestamp < wanted.until)
    if wanted.output is not None:
        conditions.append(_TABLE.output == wanted.output)
    if wanted.model_version is not None:
        conditions.append(_TABLE.modelo_version == wanted.model_version)
    if wanted.reference is not None:
        conditions.append(_TABLE.referencia == wanted.reference)
    if wanted.cursor is not None:
        moment, prediction_id = _read_cursor(wanted.cursor)
        conditions.append(tuple_(_TABLE.timestamp, _TABLE.id) < (moment, prediction_id))
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
