"""Load shedding before HTTP parsing: where there is no room for a request, send a prebuilt 503.

A rejection by the route costs a third of an answer: at three times its capacity a process would only reject. Here it
costs a comparison and a write, so that the process keeps answering.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import ClassVar, Protocol, cast

from starlette.types import Scope

from shared.web.connection import CLOSE, MOST_CONNECTIONS, Connection, raw_response
from shared.web.problems import ProblemError
from shared.web.rejections import Rejections

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9})\r\n")
_NOT_PLAIN = re.compile(rb"\r\n(?:connection: *close|expect:|transfer-encoding:|upgrade:)")
_PLACE = "predecir.place"


class Admits(Protocol):
    """Decides whether there is room for one more request."""

    def enter(self) -> Callable[[], ProblemError] | None:
        """Take a place and return None, or return the function that makes the rejection."""

    def leave(self) -> None:
        """Release a place."""


class LoadShedder:
    """Rejects requests to POST `path` that `admission` has no place for, before they are parsed.

    It recognises requests that arrive whole and alone, as they nearly always do. Others are passed on without a place:
    the route itself asks `admission`.
    """

    def __init__(self, path: str, admission: Admits) -> None:
        self.start, self.admission = f"POST {path} HTTP/1.1\r\n".encode(), admission


def take_place(scope: Scope) -> bool:
    """Take over the place that the load shedder took for a request; return whether there was one.

    The caller gives it back. Otherwise the protocol does, with the end of the response or of the connection.
    """
    taken: bool = scope.pop(_PLACE, False)
    return taken


def server_protocol(
    rejections: Rejections, shedder: LoadShedder | None, most_connections: int = MOST_CONNECTIONS
) -> type[Connection]:
    """Return the server's protocol: it reports to `rejections`, and sheds load if there is a `shedder`."""
    own = {"rejections": rejections, "most_connections": most_connections}
    if shedder is None:
        return type("Reporting", (Connection,), own)
    return type("Shedding", (_Shedding,), {**own, "shedder": shedder})


class _Shedding(Connection):
    """A connection that sheds load before the parser."""

    shedder: ClassVar[LoadShedder]
    _admitted: Scope | None = None

    def data_received(self, data: bytes) -> None:
        shedder = self.shedder
        if not (data.startswith(shedder.start) and self._is_idle() and _is_whole(data)):
            super().data_received(data)
        elif (rejection := shedder.admission.enter()) is None:
            super().data_received(data)
            # Uvicorn made the scope of this request and its task, which has not run yet.
            self._admitted = cast("Scope", self.scope)
            self._admitted[_PLACE] = True
        elif self.flow.write_paused or CLOSE in self.config.encoded_headers:
            # Responses must not pile up for a client that does not read; and the prebuilt one keeps the connection.
            super().data_received(data)
        else:
            problem, response = _prebuilt(rejection)
            self.rejections.note(problem)
            self._idle_since = self.loop.time()
            self.transport.write(response)

    def on_response_complete(self) -> None:
        self._leave()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        return not self._within and not self._is_responding()

    def _leave(self) -> None:
        """Release the place, unless the route took it over: it does the work, and may outlive the connection."""
        admitted, self._admitted = self._admitted, None
        if admitted is not None and take_place(admitted):
            self.shedder.admission.leave()


def _is_whole(data: bytes) -> bool:
    """Return whether `data` is exactly one request, of a client that keeps the connection."""
    end = data.find(b"\r\n\r\n")
    head = data[: end + 2].lower()
    length = _LENGTH.search(head)
    return length is not None and end + 4 + int(length[1]) == len(data) and _NOT_PLAIN.search(head) is None


@cache
def _prebuilt(rejection: Callable[[], ProblemError]) -> tuple[ProblemError, bytes]:
    """Return the problem that `rejection` makes, and its response as bytes; both are made once."""
    problem = rejection()
    return problem, raw_response(problem)
