"""A faulty network: a TCP proxy on loopback, in its own thread, with the faults of real links.

Each fault applies to open and to new connections, until `heal` or the next fault. What one
connection carries is never reordered, and never lost in its middle: TCP does neither.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from shared.cancellation import cancel_and_wait
from tests.support.loop_thread import in_loop_thread

T = TypeVar("T")
_CHUNK = 64 * 1024
_CHUNKS_AHEAD = 16
"""Bytes read ahead of delivery, each way of a connection, so that a delay does not stop the sender at every chunk."""
_TICK = 0.02
"""Seconds between two pieces on a slow link."""
_SECONDS = 30
"""Timeout of every call into the thread."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: the peer gets a reset, not an orderly end."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """How every link behaves; the default is a good one."""

    refusing: bool = False
    silent: bool = False
    delay: float = 0.0
    bytes_per_second: int | None = None
    most_bytes: int | None = None


class _Truncated(Exception):  # noqa: N818 - it is no error, but the chosen limit
    """Raised when a direction has reached its limit of bytes."""


@dataclass(eq=False, slots=True)
class _Link:
    """One connection from a client and the one behind it.

    `left` is the number of bytes that each way may still carry, `sent` the number carried from the client.
    """

    writers: list[asyncio.StreamWriter]
    left: list[int | None]
    forgotten: bool = False
    sent: int = 0

    def reset(self) -> None:
        for writer in self.writers:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def close(self) -> None:
        """Close orderly, after the written bytes."""
        for writer in self.writers:
            writer.close()
        for writer in self.writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class Proxy:
    """The network to one server: clients connect to `port` instead of the server's own."""

    def __init__(self, target: int, loop: asyncio.AbstractEventLoop) -> None:
        """Forward to port `target` of loopback, in `loop`."""
        self.port = 0
        self._target, self.loop = target, loop
        self._fault, self._changed = _Fault(), asyncio.Condition()
        self._links: set[_Link] = set()

    def cut(self) -> None:
        """Reset every connection; new ones are reset, too."""
        self._become(_Fault(refusing=True))

    def blackhole(self) -> None:
        """Carry nothing, without a reset; sent bytes arrive after `heal`, as a retransmission does."""
        self._become(_Fault(silent=True))

    def delay(self, seconds: float) -> None:
        """Deliver everything `seconds` late, each way."""
        self._become(_Fault(delay=seconds))

    def throttle(self, bytes_per_second: int) -> None:
        """Carry no more than `bytes_per_second`, each way of each connection."""
        self._become(_Fault(bytes_per_second=bytes_per_second))

    def truncate(self, after_bytes: int) -> None:
        """End each connection after `after_bytes` more bytes, either way."""
        self._become(_Fault(most_bytes=after_bytes))

    def forget(self) -> None:
        """Drop all bytes of the open connections, as a restarted firewall does; new connections work."""
        self._become(_Fault(), forgetting=True)

    def heal(self) -> None:
        """Carry everything again; connections that `forget` has dropped stay dropped."""
        self._become(_Fault())

    def connections(self) -> int:
        """Count the connections that are open now."""

        async def count() -> int:
            return len(self._links)

        return self._call(count())

    def sent(self) -> int:
        """Count the bytes that were carried to the server on the connections that are open now."""

        async def count() -> int:
            return sum(link.sent for link in self._links)

        return self._call(count())

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Accept connections meanwhile."""
        accepted: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            link = _Link([writer], [self._fault.most_bytes] * 2)
            self._links.add(link)
            task = asyncio.create_task(self._serve(link, reader, writer))
            accepted.add(task)
            task.add_done_callback(accepted.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for link in self._links:
                link.reset()
            await cancel_and_wait(*accepted)

    def _become(self, fault: _Fault, *, forgetting: bool = False) -> None:
        async def become() -> None:
            self._fault = fault
            for link in self._links:
                link.left = [fault.most_bytes] * 2
                link.forgotten |= forgetting
                if fault.refusing:
                    link.reset()
            async with self._changed:
                self._changed.notify_all()

        self._call(become())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_SECONDS)

    async def _while(self, holds: Callable[[], bool]) -> None:
        if holds():
            async with self._changed:
                await self._changed.wait_for(lambda: not holds())

    async def _serve(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._while(lambda: self._fault.silent)
            if not self._fault.refusing:
                await self._connect(link, reader, writer)
                await link.close()
        except* _Truncated:
            await link.close()
        except* OSError:
            pass  # one side has closed; close the other one, too
        finally:
            link.reset()
            self._links.discard(link)

    async def _connect(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection("127.0.0.1", self._target)
        link.writers.append(there)
        async with asyncio.TaskGroup() as ways:
            ways.create_task(self._carry(link, 0, reader, there))
            ways.create_task(self._carry(link, 1, back, writer))

    async def _carry(self, link: _Link, way: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one way of `link` to its end."""
        ahead: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(_CHUNKS_AHEAD)
        receiving = asyncio.create_task(self._receive(reader, ahead))
        try:
            while True:
                due, data = await ahead.get()
                await asyncio.sleep(due - self.loop.time())
                await self._while(lambda: self._fault.silent or link.forgotten)
                if data is None:
                    raise ConnectionResetError
                if not data:
                    break
                await self._deliver(link, way, writer, data)
        finally:
            receiving.cancel()
        writer.write_eof()

    async def _receive(self, reader: asyncio.StreamReader, ahead: asyncio.Queue[tuple[float, bytes | None]]) -> None:
        """Read ahead; an empty chunk is an orderly end, None a reset. Both are delivered in order, like all chunks."""
        data: bytes | None = b"-"
        while data:
            try:
                data = await reader.read(_CHUNK)
            except OSError:
                data = None
            await ahead.put((self.loop.time() + self._fault.delay, data))

    async def _deliver(self, link: _Link, way: int, writer: asyncio.StreamWriter, data: bytes) -> None:
        while data:
            rate, left = self._fault.bytes_per_second, link.left[way]
            size = min(_CHUNK if rate is None else max(1, int(rate * _TICK)), _CHUNK if left is None else left)
            piece, data = data[:size], data[size:]
            writer.write(piece)
            await writer.drain()
            link.sent += len(piece) if way == 0 else 0
            if left is not None:
                link.left[way] = left - len(piece)
                if left == len(piece):
                    raise _Truncated
            if rate is not None:
                await asyncio.sleep(len(piece) / rate)


def link_faults(*, late: float, slow: int, short: int) -> dict[str, Callable[[Proxy], None]]:
    """Name every fault of a link: `late` in seconds, `slow` in bytes a second, cut off after `short` bytes."""
    return {
        "cut": Proxy.cut,
        "silent": Proxy.blackhole,
        "late": partial(Proxy.delay, seconds=late),
        "slow": partial(Proxy.throttle, bytes_per_second=slow),
        "short": partial(Proxy.truncate, after_bytes=short),
        "forgotten": Proxy.forget,
    }


@contextmanager
def proxied(target: int) -> Iterator[Proxy]:
    """Forward to port `target` of loopback, without faults at first."""
    with in_loop_thread(_opened(target), seconds=_SECONDS) as proxy:
        yield proxy


@asynccontextmanager
async def _opened(target: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(target, asyncio.get_running_loop())
    async with proxy.open():
        yield proxy
