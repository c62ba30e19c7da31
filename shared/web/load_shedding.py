"""The door of a busy route: what is one request too many is refused where its bytes arrive.

A refusal that goes the way of an answer costs a third of one: at three times what a process can answer, it would spend
its time on refusing. Here it costs a comparison and a write, before the request is parsed, so that answers go on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from shared.web.write_coalescing import CoalescingProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from shared.web.problems import ProblemError

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9})\r\n")
_NOT_PLAIN = re.compile(rb"\r\n(?:connection: *close|expect:|transfer-encoding:|upgrade:)")


@dataclass(slots=True)
class LoadShedder:
    """Lets `most` requests to POST `path` in at once, and answers others with `problem`; `refused` counts these.

    It knows requests that arrive whole and alone, as they nearly always do. Whatever else comes in is not counted here:
    the route itself has the last word.
    """

    path: str
    most: int
    problem: ProblemError
    refused: Callable[[], None]
    inside: int = field(default=0, init=False)
    start: bytes = field(init=False)
    refusal: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.start, self.refusal = f"POST {self.path} HTTP/1.1\r\n".encode(), _written(self.problem)

    def protocol(self) -> type[CoalescingProtocol]:
        """Make the server's protocol with this door in it."""

        class Guarded(_Guarded):
            door = self

        return Guarded


class _Guarded(CoalescingProtocol):
    """One connection, with a door before the parser."""

    door: ClassVar[LoadShedder]
    _within = _counted = False
    _refused_at = 0.0

    def data_received(self, data: bytes) -> None:
        door = self.door
        if data.startswith(door.start) and self._is_idle() and _is_whole(data):
            if door.inside < door.most:
                door.inside += 1
                self._counted = True
            elif not self.flow.write_paused:  # who does not read must not pile up what to read
                door.refused()
                self._refused_at = self.loop.time()
                self.transport.write(door.refusal)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._within = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._within = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._leave()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        # Set anew with each refusal, the timer would cost as much as the rest of one.
        idle = self.loop.time() - self._refused_at
        if idle >= self.timeout_keep_alive:
            super().timeout_keep_alive_handler()
            return
        rest = self.timeout_keep_alive - idle
        self.timeout_keep_alive_task = self.loop.call_later(rest, self.timeout_keep_alive_handler)

    def _is_idle(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return not self._within and (cycle is None or cycle.response_complete)

    def _leave(self) -> None:
        self.door.inside -= self._counted
        self._counted = False


def _is_whole(data: bytes) -> bool:
    """Whether `data` is exactly one request, of a client that goes on with the connection."""
    end = data.find(b"\r\n\r\n")
    head = data[: end + 2].lower()
    length = _LENGTH.search(head)
    return length is not None and end + 4 + int(length[1]) == len(data) and _NOT_PLAIN.search(head) is None


def _written(problem: ProblemError) -> bytes:
    response = problem.response()
    headers = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
    return b"HTTP/1.1 %d Service Unavailable\r\n%s\r\n%s" % (response.status_code, headers, bytes(response.body))
