"""Inserts of many rows on SQLite: sizes of statements, existing keys, times that are NULL."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, select

from services.recorder.db.inserts import insert_new
from services.recorder.db.types import UtcTimestamp

ROWS = Table("rows", MetaData(), Column("id", Integer, primary_key=True), Column("time", UtcTimestamp, nullable=True))
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 300])
def test_every_row_is_inserted_once_with_its_time_or_null(count: int) -> None:
    rows = [(n, START + timedelta(microseconds=n) if n % 2 else None) for n in range(count)]
    engine = create_engine("sqlite://")
    try:
        with engine.begin() as connection:
            ROWS.create(connection)
            assert [insert_new(connection, ROWS, part) for part in (rows[: count // 2], rows)] == [
                count // 2,
                count - count // 2,
            ]
            assert connection.execute(select(ROWS).order_by(ROWS.c.id)).all() == rows
    finally:
        engine.dispose()
