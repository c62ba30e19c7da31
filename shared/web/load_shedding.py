"""Load shedding before HTTP parsing: above the in-flight limit, send a prebuilt 503.

A rejection by the route costs a third of an answer: at three times its capacity a process would only reject. Here it
costs a comparison and a write, so that the process keeps answering.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from shared.web.problems import ProblemError
from shared.web.write_coalescing import CoalescingProtocol

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from shared.web.rejections import Rejections

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9})\r\n")
_NOT_PLAIN = re.compile(rb"\r\n(?:connection: *close|expect:|transfer-encoding:|upgrade:)")


@dataclass(slots=True)
class LoadShedder:
    """Passes on `most` requests to POST `path` at once, and answers others with `problem`.

    It recognises requests that arrive whole and alone, as they nearly always do. Others are passed on uncounted: the
    route itself enforces the limit.
    """

    path: str
    most: int
    problem: ProblemError
    inside: int = field(default=0, init=False)
    start: bytes = field(init=False)
    rejection: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.start, self.rejection = f"POST {self.path} HTTP/1.1\r\n".encode(), _written(self.problem)


def server_protocol(rejections: Rejections, shedder: LoadShedder | None) -> type[CoalescingProtocol]:
    """Return the server's protocol: it reports to `rejections`, and sheds load if there is a `shedder`."""
    if shedder is None:
        return type("Reporting", (_Reporting,), {"rejections": rejections})
    return type("Shedding", (_Shedding,), {"rejections": rejections, "shedder": shedder})


class _Reporting(CoalescingProtocol):
    """A connection that reports bytes that are not HTTP; uvicorn answers them."""

    rejections: ClassVar[Rejections]

    def send_400_response(self, msg: str) -> None:
        self.rejections.note(ProblemError(400, "http_400", "La petición no se entiende."))
        super().send_400_response(msg)


class _Shedding(_Reporting):
    """A connection that sheds load before the parser."""

    shedder: ClassVar[LoadShedder]
    _within = _counted = False
    _rejected_at = 0.0

    def data_received(self, data: bytes) -> None:
        shedder = self.shedder
        if data.startswith(shedder.start) and self._is_idle() and _is_whole(data):
            if shedder.inside < shedder.most:
                shedder.inside += 1
                self._counted = True
            elif not self.flow.write_paused:  # responses must not pile up for a client that does not read
                self.rejections.note(shedder.problem)
                self._rejected_at = self.loop.time()
                self.transport.write(shedder.rejection)
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
        # Setting the timer at each rejection would double the cost of a rejection.
        idle = self.loop.time() - self._rejected_at
        if idle >= self.timeout_keep_alive:
            super().timeout_keep_alive_handler()
            return
        rest = self.timeout_keep_alive - idle
        self.timeout_keep_alive_task = self.loop.call_later(rest, self.timeout_keep_alive_handler)

    def _is_idle(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return not self._within and (cycle is None or cycle.response_complete)

    def _leave(self) -> None:
        self.shedder.inside -= self._counted
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
