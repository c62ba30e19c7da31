"""Column types that behave alike on SQLite and PostgreSQL."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Integer, String, Text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


def iso_utc(moment: datetime) -> str:
    """Return `moment` (UTC) as text of fixed width, which sorts by time: 2026-01-31T09:05:00.000000Z."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


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


UUID_TEXT = String(36).with_variant(UUID(as_uuid=False), "postgresql")
"""A UUID, as canonical lower-case text in Python and on SQLite."""
JSON_DOCUMENT = JSON().with_variant(JSONB(), "postgresql")
"""A JSON document: text on SQLite, `jsonb` on PostgreSQL."""
BIG_KEY = BigInteger().with_variant(Integer(), "sqlite")
"""A key that the database generates; SQLite does so only for INTEGER."""
