"""Load shedding in a real server, with the gateway's admission."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from services.gateway.admission import Admission, Limits
from services.gateway.outbox.disk_guard import DiskGuard
from services.gateway.outbox.outbox import Outbox
from services.gateway.rejections import saturated
from shared.web.connection import CLOSE
from shared.web.load_shedding import LoadShedder, server_protocol
from shared.web.problems import ProblemError
from shared.web.rejections import Rejections
from tests.support import plain_http
from tests.support.haproxy import haproxy
from tests.support.ports import free_ports
from tests.support.raw_http import SECONDS, RawClient, raw_client, served
from tests.support.waiting import until

KEEP_ALIVE = 2
"""Seconds after which the server closes an idle connection."""
REQUEST = b"POST /predecir HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
ROOM = 256
"""Requests that a balancer sends to one gateway and queues for it."""


@dataclass(slots=True)
class Busy:
    """A server whose route answers after `release`; it answers health checks at once."""

    port: int = 0
    connections: set[Any] = field(default_factory=set)
    received: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    admission: Admission | None = None
    """The admission that the route uses, too, if set."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer after `release`, a health check at once."""
        while (await receive()).get("more_body", False):
            pass
        if scope["method"] == "POST":
            self.received += 1
            with self.admission.admitted(scope) if self.admission else nullcontext():
                await self.release.wait()
        headers = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"listo"})

    def in_flight(self) -> float | None:
        """Return the number of places taken."""
        return self.registry.get_sample_value("predecir_requests_in_flight")

    @property
    def rejected(self) -> int:
        """The number of rejected requests."""
        return int(self.registry.get_sample_value("predecir_refusals_total", {"rule": "saturado"}) or 0)

    def client(self, port: int | None = None) -> AbstractAsyncContextManager[RawClient]:
        """Connect to the server, or to a balancer on `port`."""
        return raw_client(port or self.port)

    async def has_received(self, times: int) -> None:
        """Wait until the route has received that many requests."""
        await until(lambda: self.received == times, seconds=SECONDS)


@asynccontextmanager
async def admitting(
    registry: CollectorRegistry, most: int = 1, most_events: int = 1000
) -> AsyncIterator[tuple[Admission, Outbox]]:
    """Make the gateway's admission, over an empty outbox."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "outbox.db"
        outbox = await Outbox.open(file, keep_answers=60)
        limits = Limits(most, most_events, ack_policy="local", ack_seconds=1)
        yield Admission(outbox, DiskGuard(file, min_free_mb=1), limits, registry), outbox
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
    async with served(app, protocol, timeout_keep_alive=KEEP_ALIVE) as server:
        app.connections, app.port = server.server_state.connections, server.port
        try:
            yield
        finally:
            app.release.set()


async def test_above_the_limit_requests_are_rejected_on_an_open_connection() -> None:
    async with busy(1) as server, server.client() as first, server.client() as second:
        first.writer.write(REQUEST)
        await server.has_received(1)
        for _ in range(2):
            second.writer.write(REQUEST)
            status, head = await second.response()
            assert (status, "retry-after: 1\r\n" in head, "application/problem+json" in head) == (503, True, True)
        assert (server.rejected, server.received) == (2, 1)
        server.release.set()
        assert (await first.response())[0] == 200
        second.writer.write(REQUEST)
        assert (await second.response())[0] == 200


async def test_a_connection_stays_open_for_its_time_after_a_rejection() -> None:
    async with busy(1) as server, server.client() as first, server.client() as second:
        server.release.set()
        second.writer.write(REQUEST)
        assert (await second.response())[0] == 200  # from now on the connection is idle
        server.release.clear()
        first.writer.write(REQUEST)
        await server.has_received(2)
        sent = asyncio.get_running_loop().time()
        second.writer.write(REQUEST)
        assert (await second.response())[0] == 503
        assert await second.rest() == b""
        assert asyncio.get_running_loop().time() - sent >= KEEP_ALIVE


async def test_a_connection_with_rejections_only_is_closed_after_its_time() -> None:
    async with busy(1) as server, server.client() as first, server.client() as second:
        first.writer.write(REQUEST)
        await server.has_received(1)
        second.writer.write(REQUEST)
        assert (await second.response())[0] == 503
        assert await second.rest() == b""


async def test_while_the_server_drains_the_route_rejects_and_the_connection_closes() -> None:
    async with busy(1) as server, server.client() as first, server.client() as second:
        first.writer.write(REQUEST)
        await server.has_received(1)
        connection = next(iter(server.connections))
        connection.config.encoded_headers.append(CLOSE)
        connection.server_state.default_headers.append(CLOSE)  # as uvicorn does within a second
        second.writer.write(REQUEST)
        await server.has_received(2)  # which would reject it
        server.release.set()
        status, head = await second.response()
        assert (status, "connection: close\r\n" in head) == (200, True)
        assert await second.rest() == b""


async def test_the_balancer_rejects_with_the_same_words_as_a_gateway(tmp_path: Path) -> None:
    expected = saturated().response()
    async with AsyncExitStack() as opened:
        server = await opened.enter_async_context(busy(ROOM + 1))
        port = opened.enter_context(haproxy(tmp_path, "gateways", [server.port])).port
        first, *others = [await opened.enter_async_context(server.client(port)) for _ in range(ROOM + 1)]
        first.writer.write(REQUEST)
        await server.has_received(1)
        for client in others:
            client.writer.write(REQUEST)
        waiting = {asyncio.create_task(client.head_and_body()) for client in others}
        response, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        head, body = response.pop().result()
        assert (head.split()[1], body) == ("503", expected.body)
        assert "retry-after: 1\r\n" in head
        assert f"content-type: {expected.media_type}\r\n" in head
        assert server.received < ROOM
        server.release.set()
        assert (await first.response())[0] == 200
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(
    ("pool", "ask"),
    [
        ("gateways", lambda url: plain_http.post(f"{url}/predecir", json={}, timeout=30)),
        ("recorders", lambda url: plain_http.get(f"{url}/predicciones", timeout=30)),
    ],
    ids=["gateways", "recorders"],
)
def test_a_balancer_without_a_replica_rejects_like_a_gateway(
    tmp_path: Path, pool: str, ask: Callable[[str], httpx.Response]
) -> None:
    detail = "El servicio no está disponible en este momento; inténtelo de nuevo."
    expected = ProblemError(503, "sin_servicio", detail, retry_after=1).response()
    with haproxy(tmp_path, pool, free_ports(1)) as balancer:
        response = ask(balancer.url)
    assert (response.status_code, response.content) == (503, expected.body)
    assert (response.headers["retry-after"], response.headers["content-type"]) == ("1", expected.media_type)


async def test_a_closed_connection_gives_its_place_back() -> None:
    async with busy(1) as server, server.client() as second:
        async with server.client() as first:
            first.writer.write(REQUEST)
            await server.has_received(1)

        async def let_in() -> bool:
            if server.received == 2:
                return True
            second.writer.write(REQUEST)
            await until(lambda: server.received == 2 or server.rejected > rejected, seconds=SECONDS)
            if server.rejected > rejected:
                await second.response()
            return server.received == 2

        rejected = server.rejected
        while not await let_in():
            rejected = server.rejected


async def test_rejections_do_not_pile_up_for_a_slow_reader() -> None:
    async with busy(1) as server, server.client() as first:
        first.writer.write(REQUEST)
        await server.has_received(1)
        [known] = server.connections
        async with server.client() as second:
            await until(lambda: len(server.connections) == 2, seconds=SECONDS)
            [full] = server.connections - {known}
            full.pause_writing()  # as its transport does when its write buffer is full
            second.writer.write(REQUEST)
            await server.has_received(2)  # passed on to the route, which waits until it can write
            assert server.rejected == 0
            full.resume_writing()
            server.release.set()
            assert (await second.response())[0] == 200


async def test_a_request_in_pieces_or_pipelined_goes_to_the_route() -> None:
    closing = REQUEST.replace(b"Host", b"Connection: close\r\nHost")
    async with busy(1) as server, server.client() as first:
        first.writer.write(REQUEST)
        await server.has_received(1)
        async with server.client() as pieces, server.client() as last, server.client() as two:
            pieces.writer.write(REQUEST[:30])
            await pieces.writer.drain()
            last.writer.write(closing)
            await server.has_received(2)  # by then the first piece has arrived, for it was sent before
            pieces.writer.write(REQUEST[30:])
            two.writer.write(REQUEST + REQUEST)
            await server.has_received(4)  # the second of two waits for the first
            server.release.set()
            assert [(await client.response())[0] for client in (first, pieces, last, two, two)] == [200] * 5
        assert server.rejected == 0


async def test_bytes_that_are_not_http_are_counted() -> None:
    async with busy(1) as server, server.client() as client:
        client.writer.write(b"Juana\r\n\r\n")
        assert (await client.reader.read()).startswith(b"HTTP/1.1 400 ")
        assert server.registry.get_sample_value("predecir_refusals_total", {"rule": "http_400"}) == 1


async def test_a_route_takes_over_the_place_of_its_request() -> None:
    app = Busy()
    async with admitting(app.registry) as (app.admission, _), serving(app, app.admission):
        async with app.client() as first:
            first.writer.write(REQUEST)
            await app.has_received(1)
            assert app.in_flight() == 1
        async with app.client() as second:
            second.writer.write(REQUEST)
            assert (await second.response())[0] == 503, "the work of the first goes on"
        app.release.set()
        await until(lambda: app.in_flight() == 0, seconds=SECONDS)


async def test_a_full_outbox_is_rejected_before_parsing() -> None:
    app = Busy()
    async with admitting(app.registry, most_events=1) as (admission, outbox), serving(app, admission):
        await outbox.append(b"{}")
        async with app.client() as client:
            client.writer.write(REQUEST)
            head, body = await client.head_and_body()
    assert (head.split()[1], b":sin_espacio" in body, app.received) == ("503", True, 0)
