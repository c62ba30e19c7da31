"""One HTTP/1.1 connection of the server: how it reads messages, how long it waits for them, and how many there are.

The bounds hold for a service that clients reach without a balancer: what one of them sends without a key must neither
fill the memory nor keep others waiting.
"""

import asyncio
import heapq
import re
from http import HTTPStatus
from typing import Any, ClassVar

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from shared.web.problems import ProblemError, http_problem
from shared.web.rejections import Rejections
from shared.web.security_headers import SECURITY_HEADERS, UNSTORED
from shared.web.write_coalescing import CoalescingProtocol

HEAD_SECONDS = 10
"""Time for the head of a request, from its first byte, and for the rest of a body after its response."""
LARGEST_HEAD = 32 * 1024
"""Most bytes of the request line and the fields of a head; of trailers or of a chunk's extensions, about as many."""
MOST_FIELDS = 100
"""Most fields of a head. Each is a small object: a head of empty fields takes 40 times its size."""
MOST_PIPELINED = 16
"""Most requests of one connection that wait for the response to an earlier one."""
MOST_CONNECTIONS = 1000
"""Most open connections of a process."""
CLOSE = (b"connection", b"close")
"""Header of every response of a server that drains: clients then connect elsewhere."""

_PIECE, _BODY_PIECE = 2 * 1024, 16 * 1024
"""Bytes that are parsed before the bounds are checked again, outside a body and in one; a read may have 256 KiB."""
_AUTHORITY = re.compile(rb"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)


class _Discarded(list[tuple[bytes, bytes]]):
    """The list for fields that are not read."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        """Discard a field."""


class Connection(CoalescingProtocol):
    """Uvicorn's HTTP protocol, without protocol upgrades and trailers, and with limits of time, size and number.

    A client may offer another protocol with any request, such as h2c or websocket. A server that does not take up the
    offer reads the message as if it were not there (RFC 9110, 7.8). The parser ends the message after its head instead,
    so the head is parsed again without the offer, and only that second message is served.

    A connection waits for a request as long as uvicorn keeps one open after a response (`timeout_keep_alive`), and
    `head_seconds` for its head. The route limits the time for the body. One timer per connection, not one per request,
    closes it when it is idle, and when its client does not read a response.
    """

    rejections: ClassVar[Rejections]
    head_seconds: ClassVar[float] = HEAD_SECONDS
    most_connections: ClassVar[int] = MOST_CONNECTIONS
    _within = False
    _unread = 0
    _deadline: asyncio.TimerHandle | None = None
    _rejected: HTTPStatus | None = None
    _idle_since = 0.0
    _unread_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Serve on `transport`, if there is room for one more connection."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        if len(self.connections) > self.most_connections and not self._make_room():
            self._answer(
                ProblemError(503, "conexiones", "Hay demasiadas conexiones; inténtelo de nuevo.", retry_after=1)
            )
            self.transport.close()
        self._look_again_at(self._idle_since + self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        """Parse `data`."""
        if len(data) <= _PIECE:
            self._receive(data)
            return
        rest = memoryview(data)
        while rest and not self.transport.is_closing() and self._rejected is None:
            size = _BODY_PIECE if self._within and not self._is_in_head() else _PIECE
            self._receive(rest[:size])
            rest = rest[size:]

    def send_400_response(self, msg: str) -> None:
        """Reject bytes that are not HTTP; see `_reject`."""
        del msg
        self._reject(HTTPStatus.BAD_REQUEST)

    def on_message_begin(self) -> None:
        """Note that a message has begun."""
        if len(self.pipeline) >= MOST_PIPELINED:
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS)
        self._within, self._unread = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Check the size of the head, and serve the request."""
        if len(self.headers) > MOST_FIELDS or (self._unread and self._head_size() > LARGEST_HEAD):
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if not self.url.startswith(b"/"):
            self._add_host_of_target()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a part of a body."""
        self._unread = 0
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Discard fields that follow the body, its trailers; uvicorn would add them to those of the head."""
        self.headers = _Discarded()

    def on_message_complete(self) -> None:
        """Note that no message has begun."""
        self._within = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin the next request that waits, if any; as uvicorn does, but without a timer of its own."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._idle_since = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def pause_writing(self) -> None:
        """Note that the client does not read its responses."""
        self._unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that it reads them again."""
        self._unread_since = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it is idle, or its responses are not read, for that long; else look again later."""
        now = self.loop.time()
        since = self.waits_since()
        if since is None:
            self._look_again_at(now + self.timeout_keep_alive)
        elif now < since + self.timeout_keep_alive:
            self._look_again_at(since + self.timeout_keep_alive)
        else:
            self._end()

    def waits_since(self, patience: float = 0.0) -> float | None:
        """Return since when the connection waits for its client; None while the server has work for it.

        A client that does not read a response counts after `patience` seconds.
        """
        if self._unread_since is not None:
            return self._unread_since if self._unread_since <= self.loop.time() - patience else None
        return None if self._is_responding() and not self.transport.is_closing() else self._idle_since

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._unset_keepalive_if_required()
        self._unset_deadline()
        super().connection_lost(exc)

    def _is_responding(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _is_in_head(self) -> bool:
        return self._within and "path" not in self.scope  # uvicorn adds it when the head is complete

    def _look_again_at(self, time: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_at(time, self.timeout_keep_alive_handler)

    def _end(self) -> None:
        """Close the connection without waiting for a client that does not read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _make_room(self) -> bool:
        """Close connections that wait for their client, a tenth of all at most, the longest waiting first.

        So a client that opens connections without end pays for one search with as many connections.
        """
        waiting = [
            (since, id(connection), connection)
            for connection in self.connections
            if isinstance(connection, Connection)
            and connection is not self
            and (since := connection.waits_since(self.head_seconds)) is not None
        ]
        for _, _, connection in heapq.nsmallest(max(1, self.most_connections // 10), waiting):
            self.connections.discard(connection)  # at once, not when the transport has reported its end
            connection.transport.abort()
        return bool(waiting)

    def _receive(self, data: bytes | memoryview) -> None:
        self._unread += len(data)
        try:
            self._parse(data)
        except HttpParserError:
            self._reject(self._rejected or HTTPStatus.BAD_REQUEST)
            return
        if self._within:
            self._limit_message()
        elif self._deadline is not None:
            self._unset_deadline()

    def _limit_message(self) -> None:
        """Check the size of the message that is being received, and set the timer that belongs to its state."""
        if self._unread > LARGEST_HEAD or (len(self.headers) > MOST_FIELDS and self._is_in_head()):
            self._reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._is_in_head() or not self._is_responding():
            if self._deadline is None:
                self._deadline = self.loop.call_later(self.head_seconds, self._expire)
        else:
            self._unset_deadline()

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self._is_responding():  # to an earlier request: the time of a pipelined one begins after that
            self._limit_message()
        else:
            self._reject(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        """Stop the parser; `_receive` rejects what it reads."""
        self._rejected = status
        raise HttpParserError

    def _reject(self, status: HTTPStatus) -> None:
        """Reject what is being received, and close the connection; what follows is not read.

        Complete requests before it are answered, and the last response closes. A request that was answered before its
        body had arrived gets no second response.
        """
        self._rejected = status
        self._unset_deadline()
        if not self._is_responding():
            if self._is_in_head() or not self._within:
                self._answer(http_problem(status))
            self.transport.close()
            return
        cycle: RequestResponseCycle = self.cycle
        if cycle.more_body and self.pipeline:  # it waits for its turn, and is rejected then
            app: Any = own_response(http_problem(status))  # an application, though not of uvicorn's types
            self.pipeline[0] = cycle, app
            cycle.more_body = False
        elif cycle.more_body:
            self._answer(http_problem(status), send=not cycle.response_started)
            self.transport.close()
            return
        if cycle.keep_alive:  # otherwise the connection ends with that response already
            self.rejections.note(http_problem(status))
            cycle.keep_alive = False
        self.transport.pause_reading()

    def _answer(self, problem: ProblemError, *, send: bool = True) -> None:
        self.rejections.note(problem)
        if send:
            self.transport.write(raw_response(problem, CLOSE))

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)

    def _add_host_of_target(self) -> None:
        """Add the authority of an absolute target to the fields, unless it is the Host: two of them are rejected."""
        target = _AUTHORITY.match(self.url)
        host = next((value for name, value in self.headers if name == b"host"), None)
        if target is not None and (host is None or host.lower() != target[1].lower()):
            self.headers.append((b"host", target[1]))

    def _parse(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as offer:
                data = memoryview(data)[offer.args[0] :]
            else:
                return
            head = self._head_without_offer()
            # A new parser: one that has read `Connection: close` takes the end of the head for that of the connection.
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
            self.parser.feed_data(head)

    def _head_without_offer(self) -> bytes:
        method = self.scope["method"]
        if method == "CONNECT":  # what follows such a head is not HTTP
            raise HttpParserError
        lines = [b"%s %s HTTP/%s" % (method.encode(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join((*lines, b"", b""))

    def _should_upgrade(self) -> bool:
        """Return True: uvicorn then does not serve the message that has the offer."""
        return True


def own_response(problem: ProblemError) -> Response:
    """Return the response to a request that the edge middleware does not see."""
    response = problem.response()
    response.raw_headers += (*SECURITY_HEADERS, UNSTORED)
    return response


def raw_response(problem: ProblemError, *headers: tuple[bytes, bytes]) -> bytes:
    """Return the bytes of the response to a request that was not parsed, with `headers` beside its own."""
    response = own_response(problem)
    status = b"HTTP/1.1 %d %s\r\n" % (response.status_code, HTTPStatus(response.status_code).phrase.encode())
    listed = dict((*response.raw_headers, *headers))
    return b"%s%s\r\n%s" % (status, b"".join(b"%s: %s\r\n" % header for header in listed.items()), bytes(response.body))
