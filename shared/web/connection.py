"""One HTTP/1.1 connection of the server: it reads each message in one way, whatever the client offers beside it."""

from httptools import HttpParserError, HttpParserUpgrade

from shared.web.write_coalescing import CoalescingProtocol


class Connection(CoalescingProtocol):
    """Uvicorn's HTTP protocol, without protocol upgrades and trailers.

    A client may offer another protocol with any request, such as h2c or websocket. A server that does not take up the
    offer reads the message as if it were not there (RFC 9110, 7.8). The parser ends the message after its head instead,
    so the head is parsed again without the offer, and only that second message is served.
    """

    def data_received(self, data: bytes) -> None:
        """Parse `data`."""
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def on_chunk_header(self) -> None:
        """Put fields that follow the body, its trailers, into a list that is not read; uvicorn would add them."""
        self.headers = []

    def _parse(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as offer:
                data = memoryview(data)[offer.args[0] :]
            else:
                return
            self.parser.feed_data(self._head_without_offer())

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
