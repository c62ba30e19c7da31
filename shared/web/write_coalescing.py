"""Write coalescing: head and body of a response in one system call, where uvicorn makes two.

A call costs some ten microseconds, since it also wakes the reader: as much as reading and validating a patient.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class CoalescingProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol on a transport that joins consecutive writes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Serve on `transport`."""
        super().connection_made(cast("asyncio.Transport", WriteCoalescer(transport, self.loop.call_soon)))


class WriteCoalescer:
    """A transport that delays a first write until the next one, at most until the end of the event loop's turn."""

    def __init__(self, transport: asyncio.Transport, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """Write to `transport`; all other attributes are those of `transport`."""
        self._transport, self._call_soon = transport, call_soon
        self.is_closing = transport.is_closing  # once per response: `__getattr__` would cost as much as the call
        self._pending = b""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of the transport
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write `data` together with the delayed bytes; delay the first write of a turn."""
        if self._pending:
            pending, self._pending = self._pending, b""
            self._transport.write(pending + data)
        else:
            self._pending = data
            self._call_soon(self._flush)

    def close(self) -> None:
        """Write the delayed bytes and close the transport."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        pending, self._pending = self._pending, b""
        if pending and not self._transport.is_closing():
            self._transport.write(pending)
