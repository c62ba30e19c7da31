"""Column types that behave alike on SQLite and PostgreSQL."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import JSON, BigInteger, ColumnElement, DateTime, Integer, String, Text, type_coerce
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


def iso_utc(moment: datetime) -> str:
    """Return `moment` (UTC) as text of fixed width, which sorts by time: 2026-01-31T09:05:00.000000Z."""
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


class UtcTimestamp(TypeDecorator[datetime]):
    """A moment in UTC: `timestamptz` on PostgreSQL, `iso_utc` text on SQLite, which has no type for it."""

    impl = Text().with_variant(DateTime(timezone=True), "postgresql")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401 - the driver's type
        """Convert an aware datetime to the type of the driver."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else iso_utc(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ANN401 - the driver's type
        """Convert the value of the driver to an aware datetime in UTC."""
        if value is None or dialect.name == "postgresql":
            return value  # type: ignore[no-any-return] # asyncpg returns aware datetimes in UTC
        return datetime.fromisoformat(value)


UNREADABLE = object()
"""Stands for a value that is not of the type of its column, such as one that was changed by hand."""
_DEEPEST = 32
"""Levels of a document; a recorded one has one, and the serialiser of the read API fails on one that is far deeper."""


class _LenientTimestamp(TypeDecorator[Any]):
    """A moment in UTC as it is stored, or `UNREADABLE`; PostgreSQL's infinities are none."""

    impl = Text
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ANN401, ARG002 - the interface
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            return UNREADABLE
        return moment if moment is None or (isinstance(moment, datetime) and moment.tzinfo) else UNREADABLE


class _LenientDocument(TypeDecorator[Any]):
    """A JSON document, parsed, or `UNREADABLE`."""

    impl = Text
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ANN401, ARG002 - the interface
        try:
            document = orjson.loads(value) if isinstance(value, str) else value  # PostgreSQL's driver has parsed it
        except orjson.JSONDecodeError:
            return UNREADABLE
        level = [document]
        for _ in range(_DEEPEST):
            if not (level := [inner for each in level for inner in _inner(each)]):
                return document
        return UNREADABLE


def _inner(document: object) -> Iterable[object]:
    if isinstance(document, dict):
        return document.values()
    return document if isinstance(document, list) else ()


def lenient(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return `column` for a query in which one value of another type must not fail the others: it is `UNREADABLE`."""
    if isinstance(column.type, UtcTimestamp):
        return type_coerce(column, _LenientTimestamp())
    return type_coerce(column, _LenientDocument()) if isinstance(column.type, JSON) else column


UUID_TEXT = String(36).with_variant(UUID(as_uuid=False), "postgresql")
"""A UUID, as canonical lower-case text in Python and on SQLite."""
JSON_DOCUMENT = JSON().with_variant(JSONB(), "postgresql")
"""A JSON document: text on SQLite, `jsonb` on PostgreSQL."""
BIG_KEY = BigInteger().with_variant(Integer(), "sqlite")
"""A key that the database generates; SQLite does so only for INTEGER."""
