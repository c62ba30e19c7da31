import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.contracts.event_batches import LARGEST_SEQ
from shared.contracts.events import EventError
from shared.contracts.outbox_status import OutboxStatus, json_schema, read_status, write_status
from shared.contracts.transport import OutboxState

GOLDEN = (Path(__file__).parent / "golden" / "gateway.estado.v1.json").read_bytes()
REPORT = OutboxStatus(
    OutboxState("1c1b5f6e-0f0e-4a52-8d4c-3f3a4f7d8a11", 417, 410), datetime(2026, 11, 23, 2, 47, 26, 123456, tzinfo=UTC)
)


def test_version_1_is_written_as_it_always_was() -> None:
    written = json.loads(write_status(REPORT))
    assert written | {"id": json.loads(GOLDEN)["id"]} == json.loads(GOLDEN)


def test_the_published_schema_requires_only_written_attributes() -> None:
    path = Path(__file__).parents[2] / "docs" / "events" / "gateway.estado.v1.schema.json"
    assert (
        path.read_bytes() == json_schema()
    )  # otherwise: python -m shared.contracts.outbox_status > that file, if v1 may change
    schema = json.loads(json_schema())
    assert set(schema["required"]) <= set(json.loads(GOLDEN))
    assert set(schema["$defs"]["_Data"]["required"]) == set(json.loads(GOLDEN)["data"])


def test_version_1_is_read() -> None:
    assert read_status(GOLDEN) == REPORT


def test_the_last_status_of_a_replaced_id_is_read_as_it_was_written() -> None:
    final = replace(REPORT, state=OutboxState("g1", 417, 418, replaced=True))
    written = write_status(final)
    assert json.loads(written)["data"]["sustituido"] is True
    assert read_status(written) == final


def test_an_unknown_attribute_is_ignored() -> None:
    assert read_status(json.dumps(json.loads(GOLDEN) | {"traceparent": "00-1"}).encode()) == REPORT


@pytest.mark.parametrize(
    "body",
    [
        b"\x00\xff",
        b"[]",
        GOLDEN.replace(b'"version":1', b'"version":2'),
        GOLDEN.replace(b'"respondidas":417', b'"respondidas":-1'),
        GOLDEN.replace(b'"respondidas":417', b'"respondidas":9223372036854775808'),
        GOLDEN.replace(b'"respondidas":417', b'"respondidas":%d' % (LARGEST_SEQ + 1)),
        GOLDEN.replace(b'"respondidas":417', b'"respondidas":"417"'),
        GOLDEN.replace(b'"pendiente_desde":410', b'"pendiente_desde":419'),
        GOLDEN.replace(b'"gateway_id":"1c1b5f6e', b'"gateway_id":"\\u0000'),
        GOLDEN.replace(b"2026-11-23T02:47:26.123456+00:00", b"0001-01-01T00:00:00+14:00"),
    ],
)
def test_an_unreadable_status_is_an_error(body: bytes) -> None:
    with pytest.raises(EventError, match=r"not an event of type gateway\.estado, version 1"):
        read_status(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (GOLDEN.replace(b"2026-11-23T", b"1969-11-23T"), "before 1970"),
        (json.dumps(json.loads(GOLDEN) | {"note": "a" * 70_000}).encode(), "longer than 65536 bytes"),
    ],
)
def test_a_status_out_of_its_bounds_is_an_error_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(EventError, match=reason):
        read_status(body)
