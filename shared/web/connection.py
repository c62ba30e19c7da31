"""One HTTP/1.1 connection of the server: how it reads messages, and how long it waits for them."""

import asyncio
from http import HTTPStatus
from typing import ClassVar

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from shared.web.problems import ProblemError, http_problem
from shared.web.rejections import Rejections
from shared.web.write_coalescing import CoalescingProtocol

HEAD_SECONDS = 10
"""Time for the head of a request, from its first byte, and for the rest of a body after its response."""
LARGEST_HEAD = 64 * 1024
"""Most bytes of a head, of trailers or of a chunk's extensions, after the read in which they begin.

The parser copies a field again with each piece of it: one of 40 MB would stop the process for seconds.
"""
CLOSE = (b"connection", b"close")
"""Header of every response of a server that drains: clients then connect elsewhere."""


class Connection(CoalescingProtocol):
    """Uvicorn's HTTP protocol, without protocol upgrades and trailers, and with limits of time and size.

    A client may offer another protocol with any request, such as h2c or websocket. A server that does not take up the
    offer reads the message as if it were not there (RFC 9110, 7.8). The parser ends the message after its head instead,
    so the head is parsed again without the offer, and only that second message is served.

    A connection waits for a request as long as uvicorn keeps one open after a response (`timeout_keep_alive`), and
    `head_seconds` for its head. The route limits the time for the body.
    """

    rejections: ClassVar[Rejections]
    head_seconds: ClassVar[float] = HEAD_SECONDS
    _within = False
    _unread = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Serve on `transport`."""
        super().connection_made(transport)
        self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        """Parse `data`."""
        self._unset_keepalive_if_required()
        self._unread += len(data)
        try:
            self._parse(data)
        except HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        else:
            if self._unread > LARGEST_HEAD:
                self._close(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            else:
                self._limit_time()

    def send_400_response(self, msg: str) -> None:
        """Reject bytes that are not HTTP; complete requests before them are answered, and the last response closes."""
        behind_request = self._is_responding() and not self.cycle.more_body
        if behind_request and not self.cycle.keep_alive:  # the connection ends with that response already
            return
        self.rejections.note(http_problem(HTTPStatus.BAD_REQUEST))
        if behind_request:
            self.cycle.keep_alive = False
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Note that a message has begun."""
        self._within, self._unread = True, 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """Pass on a part of a body."""
        self._unread = 0
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Put fields that follow the body, its trailers, into a list that is not read; uvicorn would add them."""
        self.headers = []

    def on_message_complete(self) -> None:
        """Note that no message has begun."""
        self._within = False
        super().on_message_complete()

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

    def _limit_time(self) -> None:
        """Set the timer that belongs to the state after some bytes; in the state of most, there is none to set."""
        responding = self._is_responding()
        if self._is_in_head() or (self._within and not responding):
            if self._deadline is None:
                self._deadline = self.loop.call_later(self.head_seconds, self._expire)
            return
        self._unset_deadline()
        if not responding:
            self._wait_for_request()

    def _wait_for_request(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self._is_responding():  # to an earlier request: the time of a pipelined one begins after that
            self._limit_time()
        else:
            self._close(HTTPStatus.REQUEST_TIMEOUT)

    def _close(self, status: HTTPStatus) -> None:
        """Close the connection; a request whose head is not complete is rejected with `status`."""
        if self._is_in_head():
            problem = http_problem(status)
            self.rejections.note(problem)
            if not self._is_responding():
                self.transport.write(raw_response(problem))
        self.transport.close()

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


def raw_response(problem: ProblemError) -> bytes:
    """Return the response to a request that was not parsed."""
    response = problem.response()
    status = b"HTTP/1.1 %d %s\r\n" % (response.status_code, HTTPStatus(response.status_code).phrase.encode())
    headers = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
    return b"%s%s\r\n%s" % (status, headers, bytes(response.body))
