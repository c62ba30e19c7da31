"""An ASGI application behind uvicorn in this event loop, and clients that send it bytes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from tests.support.waiting import until

SECONDS = 30
"""Longest wait for a response."""


@dataclass(frozen=True, slots=True)
class RawClient:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def response(self) -> tuple[int, str]:
        """Read one response: its status, and its head in small letters."""
        head, _ = await self.head_and_body()
        return int(head.split()[1]), head

    async def head_and_body(self) -> tuple[str, bytes]:
        """Read one response: its head in small letters, and its body."""
        async with asyncio.timeout(SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            return head, await self.reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))

    async def rest(self) -> bytes:
        """Read until the server closes the connection."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.read()


@asynccontextmanager
async def raw_client(port: int) -> AsyncIterator[RawClient]:
    """Connect to `port`."""
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield client
    finally:
        client.writer.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the tests."""
        yield

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port


@asynccontextmanager
async def served(app: ASGIApp, protocol: type[asyncio.Protocol], **config: Any) -> AsyncIterator[_Server]:  # noqa: ANN401 - uvicorn's
    """Serve `app` with `protocol`, as the services do; at the end the server is stopped."""
    server = _Server(uvicorn.Config(app, port=0, http=protocol, ws="none", lifespan="off", log_config=None, **config))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started, seconds=SECONDS)
    try:
        yield server
    finally:
        server.should_exit = True
        await task
