"""Responses in one piece: uvicorn writes head and body apart, and each write is a system call.

A call of some ten microseconds, as it also wakes whoever reads: as much as reading and validating a patient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class CoalescingProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP, on a transport that joins what is written together."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Serve on `transport`."""
        super().connection_made(cast("asyncio.Transport", WriteCoalescer(transport, self.loop.call_soon)))


class WriteCoalescer:
    """A transport that holds back a piece until the next one, but no longer than the event loop's turn."""

    def __init__(self, transport: asyncio.Transport, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """Write to `transport`; everything else is its own."""
        self._transport, self._call_soon = transport, call_soon
        self._held = b""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the transport has
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write `data`, together with what is held; the first piece of a turn is held."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held + data)
        else:
            self._held = data
            self._call_soon(self._let_go)

    def close(self) -> None:
        """Close the transport once everything is written."""
        self._let_go()
        self._transport.close()

    def _let_go(self) -> None:
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)
