"""Batches of events in one message: encoding and decoding return the same bytes."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.outbox.rabbitmq import EVENTS_PER_MESSAGE
from shared.contracts.event_batches import (
    CONTENT_TYPE,
    LARGEST_BODY,
    LARGEST_SEQ,
    MOST_EVENTS,
    BatchError,
    split,
    unpack,
)
from shared.contracts.gateway_proof import Claim, GatewayKey
from shared.contracts.transport import Delivery


@given(
    st.lists(st.integers(1, 300), unique=True).map(sorted),
    st.binary(min_size=1).filter(lambda body: b"\n" not in body),
    st.integers(1, 7),
    st.integers(10, 100),
)
def test_what_goes_in_comes_out_whatever_the_numbers_and_bytes(
    seqs: list[int], body: bytes, most: int, most_bytes: int
) -> None:
    given_in = [Delivery("g", seq, body + b"%d" % seq) for seq in seqs]

    batches = list(split(given_in, most, most_bytes))

    assert [d for batch in batches for d in unpack(CONTENT_TYPE, batch.headers, batch.body)] == given_in
    assert [seq for batch in batches for seq in batch.seqs] == seqs
    assert all(len(batch.seqs) <= most for batch in batches)
    assert all(len(batch.body) <= most_bytes or len(batch.seqs) == 1 for batch in batches)


def test_full_batches_are_full_and_a_gap_begins_another() -> None:
    deliveries = [Delivery("g", seq, b"{}") for seq in (1, 2, 3, 4, 5, 9, 10)]
    assert [list(batch.seqs) for batch in split(deliveries, 4)] == [[1, 2, 3, 4], [5], [9, 10]]


def test_a_gateway_sends_no_message_that_is_beyond_the_bounds_of_reading() -> None:
    """Its events are as long as a request may be, four times over."""
    deliveries = [Delivery("g", seq, b"a" * (1 << 20)) for seq in range(1, 12)]
    batches = list(split(deliveries, EVENTS_PER_MESSAGE))
    assert [list(batch.seqs) for batch in batches] == [[1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11]]
    assert max(len(batch.body) for batch in batches) <= LARGEST_BODY
    assert [d for batch in batches for d in unpack(CONTENT_TYPE, batch.headers, batch.body)] == deliveries
    assert EVENTS_PER_MESSAGE <= MOST_EVENTS


def test_a_message_is_no_longer_than_its_bound_unless_one_event_is() -> None:
    sizes = [1000] * 9 + [5000, 10]
    deliveries = [Delivery("g", seq, b"x" * size) for seq, size in enumerate(sizes, 1)]
    assert [len(batch.seqs) for batch in split(deliveries, 200, 4100)] == [4, 4, 1, 1, 1]
    two = [Delivery("g", seq, b"x" * 100) for seq in (1, 2)]
    assert [len(batch.body) for batch in split(two, 200, 204)] == [204]  # two brackets, a comma and a line break


def test_any_reader_of_cloudevents_understands_the_body() -> None:
    events = [b'{"id":"a","note":"x,\\ny"}', b'{"id":"b"}']
    [batch] = split([Delivery("g", seq, event) for seq, event in enumerate(events, 1)], 10)
    assert orjson.loads(batch.body) == [orjson.loads(event) for event in events]


def test_a_reader_that_knows_no_proof_reads_a_signed_batch() -> None:
    """As a recorder of version 0.1 behind an upgraded gateway."""
    key = GatewayKey.generate()
    [batch] = split([Delivery(key.gateway_id, seq, b"{}") for seq in (7, 8)], 10)
    proof = key.proof(Claim("events", key.gateway_id, 7, 2, batch.body), b"s" * 32)
    assert unpack(CONTENT_TYPE, {**batch.headers, **proof}, batch.body) == unpack(
        CONTENT_TYPE, batch.headers, batch.body
    )


HEADERS = {"gateway-id": "g", "first-seq": 7, "events": 2}


@pytest.mark.parametrize(
    ("content_type", "headers", "body", "why"),
    [
        ("application/json", HEADERS, b"[{},\n{}]", "not of type"),
        (None, HEADERS, b"[{},\n{}]", "not of type"),
        (CONTENT_TYPE, {}, b"[{},\n{}]", "without the headers"),
        (CONTENT_TYPE, HEADERS | {"first-seq": "7"}, b"[{},\n{}]", "without the headers"),
        (CONTENT_TYPE, HEADERS | {"first-seq": True}, b"[{},\n{}]", "without the headers"),
        (CONTENT_TYPE, HEADERS | {"events": True}, b"[{}]", "without the headers"),
        (CONTENT_TYPE, HEADERS | {"gateway-id": ""}, b"[{},\n{}]", "without the headers"),
        (CONTENT_TYPE, HEADERS | {"gateway-id": "g\0"}, b"[{},\n{}]", "not a gateway's name"),
        (CONTENT_TYPE, HEADERS | {"gateway-id": "g" * 201}, b"[{},\n{}]", "not a gateway's name"),
        (CONTENT_TYPE, HEADERS | {"first-seq": 0}, b"[{},\n{}]", "out of range"),
        (CONTENT_TYPE, HEADERS | {"first-seq": 2**63 - 1}, b"[{},\n{}]", "out of range"),
        (CONTENT_TYPE, HEADERS | {"first-seq": LARGEST_SEQ}, b"[{},\n{}]", "out of range"),
        (CONTENT_TYPE, HEADERS | {"events": MOST_EVENTS + 1}, b"[{}" + b",\n{}" * MOST_EVENTS + b"]", "more than 1000"),
        (CONTENT_TYPE, HEADERS, b"[{},\n" + b" " * LARGEST_BODY + b"]", "longer than 8388608 bytes"),
        (CONTENT_TYPE, HEADERS, b"{},\n{}", "not a JSON array"),
        (CONTENT_TYPE, HEADERS, b"[{},{}]", "number of events"),
        (CONTENT_TYPE, HEADERS, b"[{},\n{},\n{}]", "number of events"),
    ],
)
def test_a_message_that_is_no_batch_raises_the_reason(
    content_type: str | None, headers: dict[str, object], body: bytes, why: str
) -> None:
    with pytest.raises(BatchError, match=why):
        unpack(content_type, headers, body)
