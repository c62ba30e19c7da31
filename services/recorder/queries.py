"""Reading recorded predictions, newest first, page by page."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import ColumnElement, select, tuple_

from services.recorder.schema import PREDICCIONES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import RowMapping
    from sqlalchemy.ext.asyncio import AsyncEngine

_TABLE = PREDICCIONES.c


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
    cursor: str | None = None


async def read_page(readers: AsyncEngine, wanted: Wanted) -> tuple[Sequence[RowMapping], str | None]:
    """Read one page and the cursor of the next, or None at the end.

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
        rows = (await connection.execute(statement)).mappings().all()
    if len(rows) <= wanted.limit:
        return rows, None
    last = rows[wanted.limit - 1]
    return rows[: wanted.limit], _write_cursor(last["timestamp"], last["id"])


async def read_one(readers: AsyncEngine, prediction_id: str) -> RowMapping | None:
    """Read one prediction by its id (a canonical UUID)."""
    async with readers.connect() as connection:
        found = await connection.execute(select(PREDICCIONES).where(_TABLE.id == prediction_id))
        return found.mappings().one_or_none()


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
