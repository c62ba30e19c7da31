"""Write coalescing: all writes of one turn of the event loop are sent together, in order, by the end of that turn."""

import asyncio
from collections import deque
from collections.abc import Callable

from shared.web.write_coalescing import WriteCoalescer

HEAD, BODY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"{}"


class Recording(asyncio.Transport):
    """A transport that records every write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Turn(deque["Callable[[], None]"]):
    """The callbacks that an event loop will call."""

    def end(self) -> None:
        while self:
            self.popleft()()


def joining() -> tuple[WriteCoalescer, Recording, Turn]:
    transport, turn = Recording(), Turn()
    return WriteCoalescer(transport, turn.append), transport, turn


def test_head_and_body_leave_in_one_write() -> None:
    joined, transport, turn = joining()
    for _ in range(3):
        joined.write(HEAD)
        joined.write(BODY)
    turn.end()
    assert transport.written == [HEAD + BODY] * 3


def test_a_head_alone_leaves_at_the_end_of_the_turn() -> None:
    joined, transport, turn = joining()
    joined.write(HEAD)
    turn.end()
    joined.write(BODY)
    turn.end()
    assert transport.written == [HEAD, BODY]


def test_an_empty_body_lets_the_head_go() -> None:
    joined, transport, _ = joining()
    joined.write(HEAD)
    joined.write(b"")
    assert transport.written == [HEAD]


def test_buffered_bytes_are_sent_before_the_transport_closes() -> None:
    joined, transport, turn = joining()
    joined.write(HEAD)
    joined.close()
    turn.end()
    assert transport.written == [HEAD]
    assert transport.closed


def test_nothing_is_written_to_a_transport_that_was_closed_meanwhile() -> None:
    joined, transport, turn = joining()
    joined.write(HEAD)
    transport.close()
    turn.end()
    assert transport.written == []


def test_everything_else_is_the_transports_own() -> None:
    joined, transport, _ = joining()
    assert joined.is_closing() is False
    transport.close()
    assert joined.is_closing() is True
