"""The door in a real server: who is one too many is told at once, and whoever cannot be judged there goes in."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import uvicorn
from prometheus_client import CollectorRegistry

from services.gateway.admission import Admission
from services.gateway.outbox.disk_guard import Disk
from services.gateway.outbox.outbox import Outbox
from services.gateway.rejections import saturated
from services.gateway.settings import GatewaySettings
from shared.web.load_shedding import LoadShedder, server_protocol
from shared.web.problems import ProblemError
from shared.web.rejections import Rejections
from tests.support import plain_http
from tests.support.haproxy import haproxy
from tests.support.ports import free_ports
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

ASK = b"POST /predecir HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
ROOM = 256
"""How many a balancer gives one gateway, and keeps waiting for it."""
_SECONDS = 30


@dataclass(slots=True)
class Busy:
    """A server whose route answers nobody before `release`; whoever looks after its health hears that it is well."""

    port: int = 0
    connections: set[Any] = field(default_factory=set)
    asked: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    admission: Admission | None = None
    """Asked by the route, too, if there is one."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, at last."""
        while (await receive()).get("more_body", False):
            pass
        if scope["method"] == "POST":
            self.asked += 1
            with self.admission.admitted(scope) if self.admission else nullcontext():
                await self.release.wait()
        headers = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"listo"})

    def in_flight(self) -> float | None:
        """How many places are taken."""
        return self.registry.get_sample_value("predecir_requests_in_flight")

    @property
    def refused(self) -> int:
        """How many were rejected."""
        return int(self.registry.get_sample_value("predecir_refusals_total", {"rule": "saturado"}) or 0)

    @asynccontextmanager
    async def client(self, port: int | None = None) -> AsyncIterator[Client]:
        """Connect, or to a balancer on `port`."""
        client = Client(*await asyncio.open_connection("127.0.0.1", port or self.port))
        try:
            yield client
        finally:
            client.writer.close()

    async def has_been_asked(self, times: int) -> None:
        """Wait until that many requests are in."""
        await until(lambda: self.asked == times, seconds=_SECONDS)


@dataclass(frozen=True, slots=True)
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def told(self) -> tuple[int, str]:
        """Read one response: its status, and its head in small letters."""
        head, _ = await self.told_whole()
        return int(head.split()[1]), head

    async def told_whole(self) -> tuple[str, bytes]:
        """Read one response: its head in small letters, and its body."""
        async with asyncio.timeout(_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            return head, await self.reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))


@asynccontextmanager
async def admitting(
    registry: CollectorRegistry, most: int = 1, most_events: int = 1000
) -> AsyncIterator[tuple[Admission, Outbox]]:
    """Make the gateway's admission, over an empty outbox."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "outbox.db"
        outbox = await Outbox.open(file, keep_answers=60)
        settings = GatewaySettings(PREDECIR_VAR=folder, gateway_max_in_flight=most, outbox_max_events=most_events)
        yield Admission(outbox, Disk(file, min_free_mb=1), settings, registry), outbox
        await outbox.close()


@asynccontextmanager
async def busy(most: int) -> AsyncIterator[Busy]:
    """Run a server that admits `most` requests."""
    app = Busy()
    async with admitting(app.registry, most) as (admission, _):
        async with serving(app, admission):
            yield app
        assert app.in_flight() == 0


@asynccontextmanager
async def serving(app: Busy, admission: Admission) -> AsyncIterator[None]:
    """Serve `app` behind a load shedder."""
    protocol = server_protocol(Rejections(app.registry), LoadShedder("/predecir", admission))
    config = uvicorn.Config(app, port=0, http=protocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())  # noqa: SLF001 - `serve` would take over the tests' signals
    await until(lambda: server.started, seconds=_SECONDS)
    app.connections = server.server_state.connections
    app.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield
    finally:
        app.release.set()
        server.should_exit = True
        await task


async def test_one_too_many_is_refused_at_once_and_may_ask_again_on_the_same_connection() -> None:
    async with busy(1) as server, server.client() as first, server.client() as second:
        first.writer.write(ASK)
        await server.has_been_asked(1)
        for _ in range(2):
            second.writer.write(ASK)
            status, head = await second.told()
            assert (status, "retry-after: 1\r\n" in head, "application/problem+json" in head) == (503, True, True)
        assert (server.refused, server.asked) == (2, 1)
        server.release.set()
        assert (await first.told())[0] == 200
        second.writer.write(ASK)
        assert (await second.told())[0] == 200


async def test_the_balancer_refuses_what_gateways_have_no_room_for_in_the_same_words(tmp_path: Path) -> None:
    expected = saturated().response()
    async with AsyncExitStack() as opened:
        server = await opened.enter_async_context(busy(ROOM + 1))
        port = int(opened.enter_context(haproxy(tmp_path, "gateways", [server.port])).rpartition(":")[2])
        first, *others = [await opened.enter_async_context(server.client(port)) for _ in range(ROOM + 1)]
        first.writer.write(ASK)
        await server.has_been_asked(1)
        for client in others:
            client.writer.write(ASK)
        waiting = {asyncio.create_task(client.told_whole()) for client in others}
        told, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        head, body = told.pop().result()
        assert (head.split()[1], body) == ("503", expected.body)
        assert "retry-after: 1\r\n" in head
        assert f"content-type: {expected.media_type}\r\n" in head
        assert server.asked < ROOM
        server.release.set()
        assert (await first.told())[0] == 200
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def test_a_balancer_without_a_gateway_refuses_as_a_gateway_would(tmp_path: Path) -> None:
    said = "El servicio no está disponible en este momento; inténtelo de nuevo."
    expected = ProblemError(503, "sin_servicio", said, retry_after=1).response()
    with haproxy(tmp_path, "gateways", free_ports(1)) as url:
        told = plain_http.post(f"{url}/predecir", json={}, timeout=30)
    assert (told.status_code, told.content) == (503, expected.body)
    assert (told.headers["retry-after"], told.headers["content-type"]) == ("1", expected.media_type)


async def test_who_hangs_up_leaves_a_place() -> None:
    async with busy(1) as server, server.client() as second:
        async with server.client() as first:
            first.writer.write(ASK)
            await server.has_been_asked(1)

        async def let_in() -> bool:
            if server.asked == 2:
                return True
            second.writer.write(ASK)
            await until(lambda: server.asked == 2 or server.refused > refused, seconds=_SECONDS)
            if server.refused > refused:
                await second.told()
            return server.asked == 2

        refused = server.refused
        while not await let_in():
            refused = server.refused


async def test_refusals_do_not_pile_up_for_who_does_not_read_them() -> None:
    async with busy(1) as server, server.client() as first:
        first.writer.write(ASK)
        await server.has_been_asked(1)
        [known] = server.connections
        async with server.client() as second:
            await until(lambda: len(server.connections) == 2, seconds=_SECONDS)
            [full] = server.connections - {known}
            full.pause_writing()  # as its transport does once what was written waits
            second.writer.write(ASK)
            await server.has_been_asked(2)  # goes the slow way, which waits until it can write
            assert server.refused == 0
            full.resume_writing()
            server.release.set()
            assert (await second.told())[0] == 200


async def test_what_does_not_come_whole_and_alone_is_the_routes_own_affair() -> None:
    closing = ASK.replace(b"Host", b"Connection: close\r\nHost")
    async with busy(1) as server, server.client() as first:
        first.writer.write(ASK)
        await server.has_been_asked(1)
        async with server.client() as pieces, server.client() as last, server.client() as two:
            pieces.writer.write(ASK[:30])
            await pieces.writer.drain()
            last.writer.write(closing)
            await server.has_been_asked(2)  # by then the first piece has arrived, for it was sent before
            pieces.writer.write(ASK[30:])
            two.writer.write(ASK + ASK)
            await server.has_been_asked(4)  # the second of two waits for the first
            server.release.set()
            assert [(await client.told())[0] for client in (first, pieces, last, two, two)] == [200] * 5
        assert server.refused == 0


async def test_what_is_not_http_is_counted() -> None:
    async with busy(1) as server, server.client() as client:
        client.writer.write(b"Juana\r\n\r\n")
        assert (await client.reader.read()).startswith(b"HTTP/1.1 400 ")
        assert server.registry.get_sample_value("predecir_refusals_total", {"rule": "http_400"}) == 1


async def test_a_route_takes_over_the_place_of_its_request() -> None:
    app = Busy()
    async with admitting(app.registry) as (app.admission, _), serving(app, app.admission):
        async with app.client() as first:
            first.writer.write(ASK)
            await app.has_been_asked(1)
            assert app.in_flight() == 1
        async with app.client() as second:
            second.writer.write(ASK)
            assert (await second.told())[0] == 503, "the work of the first goes on"
        app.release.set()
        await until(lambda: app.in_flight() == 0, seconds=_SECONDS)


async def test_a_full_outbox_is_rejected_before_parsing() -> None:
    app = Busy()
    async with admitting(app.registry, most_events=1) as (admission, outbox), serving(app, admission):
        await outbox.append(b"{}")
        async with app.client() as client:
            client.writer.write(ASK)
            head, body = await client.told_whole()
    assert (head.split()[1], b":sin_espacio" in body, app.asked) == ("503", True, 0)
