"""Properties of messages that cannot be decoded do not end the connection."""

from collections.abc import Callable

import pytest
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from services.recorder.ingest.properties import LARGEST_PROPERTIES, tolerant

BODY_SIZE = 5


def encoded(properties: Basic.Properties) -> bytes:
    return ContentHeader(body_size=BODY_SIZE, properties=properties).marshal()


def decoded(data: bytes, decode: Callable[[ContentHeader, bytes], None]) -> ContentHeader:
    header = ContentHeader()
    tolerant(decode)(header, data)
    return header


@pytest.mark.parametrize("error", [ValueError("year"), RecursionError(), UnicodeDecodeError("utf-8", b"", 0, 1, "")])
def test_a_message_is_read_without_properties_that_raise(error: Exception) -> None:
    def failing(header: ContentHeader, _: bytes) -> None:
        header.properties.content_type = "half read"
        raise error

    header = decoded(encoded(Basic.Properties("text/plain")), failing)
    assert (header.body_size, header.properties) == (BODY_SIZE, Basic.Properties())


def test_properties_beyond_our_bound_are_not_decoded() -> None:
    def unexpected(_: ContentHeader, data: bytes) -> None:
        pytest.fail(f"{len(data)} bytes were decoded")

    header = decoded(encoded(Basic.Properties(headers={"note": "a" * LARGEST_PROPERTIES})), unexpected)
    assert (header.body_size, header.properties) == (BODY_SIZE, Basic.Properties())


def test_properties_that_the_protocol_forbids_are_left_out() -> None:
    properties = Basic.Properties("text/plain")
    properties.delivery_mode = 3
    header = decoded(encoded(properties), ContentHeader.unmarshal)
    assert (header.body_size, header.properties) == (BODY_SIZE, Basic.Properties())


def test_properties_of_a_gateway_are_read() -> None:
    header = decoded(encoded(Basic.Properties("text/plain", headers={"events": 2})), ContentHeader.unmarshal)
    assert header.body_size == BODY_SIZE
    assert (header.properties.content_type, header.properties.headers) == ("text/plain", {"events": 2})
