"""A client of HTTP/2 that may stop in the middle of a request, as no library's does."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_LARGEST_FRAME = 16_384
_STATIC_STATUS = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
"""Statuses that HPACK has in its static table (RFC 7541, appendix A)."""


@dataclass(slots=True)
class Http2Client:
    """One connection: requests are streams, numbered 1, 3, 5 …; `statuses` has those that were answered."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    statuses: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    _next: int = 1

    def open(self) -> None:
        """Send what begins a connection."""
        self.writer.write(_PREFACE)
        self._frame(_SETTINGS, 0, 0, b"")

    def send(self, body: bytes, *, fields: dict[str, str], complete: bool) -> int:
        """Send a request with `body`, without its end unless `complete`; return the number of its stream."""
        stream, self._next = self._next, self._next + 2
        head = {":method": "POST", ":scheme": "https", ":path": "/predecir", ":authority": "localhost"} | fields
        self._frame(_HEADERS, _END_HEADERS, stream, b"".join(map(_literal, head, head.values())))
        for start in range(0, len(body), _LARGEST_FRAME):
            self._frame(_DATA, 0, stream, body[start : start + _LARGEST_FRAME])
        if complete:
            self._frame(_DATA, _END_STREAM, stream, b"")
        return stream

    async def read(self) -> None:
        """Read frames until the connection ends."""
        try:
            while True:
                head = await self.reader.readexactly(9)
                length, (kind, flags, stream) = int.from_bytes(head[:3], "big"), struct.unpack("!BBI", head[3:])
                payload = await self.reader.readexactly(length)
                if kind == _HEADERS:
                    self.statuses[stream] = _status(payload)
                if kind == _SETTINGS and not flags & _ACK:
                    self._frame(_SETTINGS, _ACK, 0, b"")
                if kind == _RST_STREAM or (kind in {_DATA, _HEADERS} and flags & _END_STREAM):
                    self.ended.add(stream)
                if kind == _GOAWAY:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self.writer.write(len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + payload)


def _literal(name: str, value: str) -> bytes:
    """Encode a field as a literal without indexing and without Huffman coding (RFC 7541, 6.2.2)."""
    assert len(name) < 127, "longer lengths take several bytes"
    assert len(value) < 127
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _status(block: bytes) -> int:
    """Return the status, which is the first field of a response."""
    first = block[0]
    if first & 0x80:
        return _STATIC_STATUS[first & 0x7F]
    assert first & 0x0F == 8, block
    length = block[1] & 0x7F
    assert not block[1] & 0x80, "Huffman coding"
    return int(block[2 : 2 + length])


@asynccontextmanager
async def http2_client(port: int, context: ssl.SSLContext, source: str) -> AsyncIterator[Http2Client]:
    """Connect to `port` of loopback from the address `source`; its frames are read meanwhile."""
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, local_addr=(source, 0))
    client = Http2Client(reader, writer)
    client.open()
    reading = asyncio.create_task(client.read())
    try:
        yield client
    finally:
        reading.cancel()
        writer.close()
