"""Parsing of deliveries into rows, and times as text."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Table
from sqlalchemy.dialects import sqlite
from structlog.testing import capture_logs

from services.recorder.db.rows import EventRow, FeedbackRow, PredictionRow
from services.recorder.db.tables import PREDICCIONES, RESULTADOS
from services.recorder.db.types import UtcTimestamp, iso_utc
from services.recorder.ingest import parsing
from services.recorder.ingest.parsing import DeadLetter, read_row
from tests.support.recorder_suite import START, delivery, event

MOMENTS = st.datetimes(timezones=st.just(UTC))


@given(MOMENTS, MOMENTS)
def test_times_as_text_sort_like_the_times(one: datetime, other: datetime) -> None:
    assert (iso_utc(one) < iso_utc(other)) == (one < other)
    assert datetime.fromisoformat(iso_utc(one)) == one


def test_a_row_is_in_utc_whatever_the_offset_of_the_event() -> None:
    lima = datetime(2026, 3, 1, 7, tzinfo=timezone(timedelta(hours=-5)))

    row = read_row(delivery(1, event(time=lima)), START)

    assert isinstance(row, PredictionRow)
    assert row.timestamp == lima
    assert row.timestamp.utcoffset() == timedelta(0)


@pytest.mark.parametrize(("row", "table"), [(PredictionRow, PREDICCIONES), (FeedbackRow, RESULTADOS)])
def test_the_fields_of_a_row_are_the_columns_of_its_table(row: type[EventRow], table: Table) -> None:
    assert [field.name for field in fields(row) if field.name != "body"] == table.columns.keys()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (event(time=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))), "its time is before 1970"),
        (event(event_id="0190A1B2-0000-7000-8000-000000000001"), "its id is not a canonical UUID"),
    ],
)
def test_an_event_that_a_database_cannot_hold_is_a_dead_letter(body: bytes, reason: str) -> None:
    letter = read_row(delivery(1, body), START)

    assert isinstance(letter, DeadLetter)
    assert (letter.kind, letter.reason) == ("unreadable", reason)


def test_an_unforeseen_error_is_the_dead_letter_of_its_event(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise RecursionError("secreto")

    monkeypatch.setattr(parsing, "read_event", fail)
    with capture_logs() as logs:
        letter = read_row(delivery(7, event()), START)

    assert isinstance(letter, DeadLetter)
    assert (letter.kind, letter.reason) == ("unreadable", "reading it raised RecursionError")
    assert [(line["event"], line["seq"], line["error"]) for line in logs] == [("event_unreadable", 7, "RecursionError")]
    assert "secreto" not in str(logs)


def test_a_dead_letters_reason_never_quotes_the_patient() -> None:
    body = event(note="secreto").replace(b'"probabilidad":0.', b'"probabilidad":"secreto",', 1)

    letter = read_row(delivery(1, body), START)

    assert isinstance(letter, DeadLetter)
    assert "secreto" not in letter.reason
    assert letter.body == body


def test_sqlite_text_without_an_offset_never_leaves() -> None:
    moment = datetime(2026, 3, 1, 7, tzinfo=timezone(timedelta(hours=-5)))
    dialect = sqlite.dialect()

    written = UtcTimestamp().process_bind_param(moment, dialect)

    assert written == "2026-03-01T12:00:00.000000Z"
    assert UtcTimestamp().process_result_value(written, dialect) == moment
