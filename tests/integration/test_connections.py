"""Connections of a real server: what each message is, whatever a client offers, and when a connection is closed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.cancellation import cancel_and_wait
from shared.web.connection import LARGEST_HEAD, MOST_FIELDS, MOST_PIPELINED
from shared.web.hosting import edge_app, http_app
from shared.web.load_shedding import server_protocol
from shared.web.rejections import Rejections
from shared.web.security_headers import SECURITY_HEADERS
from tests.support.raw_http import RawClient, raw_client, served
from tests.support.waiting import until

HEAD_SECONDS = 0.2
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
LENGTH = b"Content-Length: 7\r\n\r\n" + b'{"a":1}'
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n" + b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n'


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what arrived: method, path, names of the headers, and body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    names = [name.decode() for name, _ in scope["headers"]]
    content = json.dumps([scope["method"], scope["path"], names, body.decode()]).encode()
    headers = [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@dataclass(frozen=True, slots=True)
class Echo:
    """A client of `echo`, and the server's counters, port and open connections."""

    client: RawClient
    registry: CollectorRegistry
    port: int
    connections: set[Any]

    async def received(self) -> list[Any]:
        """Read one response; return what the application received."""
        head, body = await self.client.head_and_body()
        assert head.startswith("http/1.1 200 "), head
        received: list[Any] = json.loads(body)
        return received


@asynccontextmanager
async def echoing(
    app: ASGIApp = echo, *, head_seconds: float = 60, timeout_keep_alive: int = 60, most_connections: int = 1000
) -> AsyncIterator[Echo]:
    """Serve `app` with these limits."""
    registry = CollectorRegistry()
    own = server_protocol(Rejections(registry), None, most_connections)
    protocol = type("Limited", (own,), {"head_seconds": head_seconds})
    async with (
        served(app, protocol, timeout_keep_alive=timeout_keep_alive) as server,
        raw_client(server.port) as client,
    ):
        yield Echo(client, registry, server.port, server.server_state.connections)


def post(offer: bytes, framed: bytes, path: bytes = b"/a") -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + offer + framed


@pytest.mark.parametrize("framed", [LENGTH, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize("piece", [1, 100, 100_000])
async def test_an_offer_to_upgrade_does_not_change_the_message(offer: bytes, framed: bytes, piece: int) -> None:
    sent = post(offer, framed) + post(b"", framed, b"/b") + post(offer, framed, b"/c")
    async with echoing() as server:
        for start in range(0, len(sent), piece):
            server.client.writer.write(sent[start : start + piece])
            await server.client.writer.drain()
        for path in ("/a", "/b", "/c"):
            method, got, names, body = await server.received()
            assert (method, got, body) == ("POST", path, '{"a":1}')
            assert "upgrade" not in names
            assert names[0] == "host"


@pytest.mark.parametrize("framed", [LENGTH, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("piece", [1, 100_000])
async def test_an_offer_on_a_connection_that_closes_is_answered(framed: bytes, piece: int) -> None:
    sent = post(H2C + b"Connection: close\r\n", framed)
    async with echoing() as server:
        for start in range(0, len(sent), piece):
            server.client.writer.write(sent[start : start + piece])
        method, got, _, body = await server.received()
        assert (method, got, body) == ("POST", "/a", '{"a":1}')
        assert await server.client.rest() == b""


async def test_an_offer_without_a_body_is_answered_and_the_connection_stays_open() -> None:
    get = b"GET /a HTTP/1.1\r\nHost: localhost\r\n" + H2C + b"\r\n"
    async with echoing() as server:
        for sent in (get, get + get):
            server.client.writer.write(sent)
            for _ in range(sent.count(b"GET")):
                assert (await server.received())[:2] == ["GET", "/a"]


async def test_an_offer_waits_for_100_continue_as_any_request() -> None:
    head, body = post(H2C + b"Expect: 100-continue\r\n", LENGTH).split(b"\r\n\r\n")
    async with echoing() as server:
        server.client.writer.write(head + b"\r\n\r\n")
        assert await server.client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        server.client.writer.write(body)
        assert (await server.received())[3] == '{"a":1}'


@pytest.mark.parametrize(
    "sent",
    [
        post(H2C, b"Content-Length: 7\r\n" + CHUNKED),
        post(H2C, b"Content-Length: 7\r\nContent-Length: 3\r\n\r\n" + b'{"a":1}'),
        post(H2C, b"Transfer-Encoding: gzip\r\n\r\n" + b'{"a":1}'),
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n" + post(b"", LENGTH),
        b"CONNECT /a HTTP/1.1\r\nHost: localhost\r\n" + H2C + b"\r\n" + post(b"", LENGTH),
    ],
    ids=["two-framings", "two-lengths", "unknown-coding", "connect", "connect-with-offer"],
)
async def test_a_message_without_one_meaning_is_400_and_closes(sent: bytes) -> None:
    async with echoing() as server:
        server.client.writer.write(sent)
        answered = await server.client.rest()
        assert answered.startswith(b"HTTP/1.1 400 ")
        assert answered.count(b"HTTP/1.1") == 1
        assert server.registry.get_sample_value("predecir_refusals_total", {"rule": "http_400"}) == 1


async def test_a_request_before_bytes_that_are_not_http_gets_its_own_response() -> None:
    """As after a Content-Length that is too small, which counts characters of a text with accents."""
    async with echoing() as server:
        server.client.writer.write(post(b"", LENGTH) + post(b"", LENGTH, b"/b") + b"}")
        assert [(await server.received())[1] for _ in "ab"] == ["/a", "/b"]
        server.client.writer.write(b"more")
        assert await server.client.rest() == b""
        assert server.registry.get_sample_value("predecir_refusals_total", {"rule": "http_400"}) == 1


async def test_a_request_before_a_damaged_body_gets_its_own_response() -> None:
    damaged = post(b"", b"Transfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\nno size\r\n", b"/c")
    async with echoing() as server:
        server.client.writer.write(post(b"", LENGTH) + post(b"", LENGTH, b"/b") + damaged)
        assert [(await server.received())[1] for _ in "ab"] == ["/a", "/b"]
        head, body = await server.client.head_and_body()
        assert head.startswith("http/1.1 400 ")
        for name, value in (*SECURITY_HEADERS, (b"connection", b"close")):
            assert f"{name.decode()}: {value.decode()}\r\n" in head
        assert json.loads(body)["status"] == HTTPStatus.BAD_REQUEST
        assert await server.client.rest() == b""
        assert server.registry.get_sample_value("predecir_refusals_total", {"rule": "http_400"}) == 1


async def test_a_trailer_is_no_header_of_the_request() -> None:
    trailers = CHUNKED.removesuffix(b"\r\n") + b"Authorization: Bearer x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
    async with echoing() as server:
        server.client.writer.write(post(b"", trailers) + post(b"", LENGTH, b"/b"))
        assert await server.received() == ["POST", "/a", ["host", "transfer-encoding"], '{"a":1}']
        assert (await server.received())[1] == "/b"


PARTIAL = b"POST /a HTTP/1.1\r\nHost: loc"


async def trickle(client: RawClient, piece: bytes) -> bytes:
    """Send `piece` again and again until the server closes the connection; return its responses."""

    async def send() -> None:
        with suppress(ConnectionError):
            while True:
                client.writer.write(piece)
                await client.writer.drain()
                await asyncio.sleep(HEAD_SECONDS / 10)

    sending = asyncio.create_task(send())
    try:
        return await client.rest()
    except ConnectionError:  # the server closed it while a piece was on the way
        return b""
    finally:
        await cancel_and_wait(sending)


@pytest.mark.parametrize("before", [b"", post(b"", LENGTH)], ids=["new", "used"])
async def test_a_head_that_stops_is_408_and_the_connection_is_closed(before: bytes) -> None:
    async with echoing(head_seconds=HEAD_SECONDS) as server:
        if before:
            server.client.writer.write(before)
            await server.received()
        server.client.writer.write(PARTIAL)
        head, _, body = (await server.client.rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in head.lower()
        assert json.loads(body)["detail"] == "La petición no llegó a tiempo."
        assert server.registry.get_sample_value("predecir_refusals_total", {"rule": "http_408"}) == 1


async def test_a_head_that_trickles_does_not_stay_open() -> None:
    async with echoing(head_seconds=HEAD_SECONDS) as server:
        server.client.writer.write(PARTIAL)
        await trickle(server.client, b"a")
        assert server.registry.get_sample_value("predecir_refusals_total", {"rule": "http_408"}) == 1


async def flood(client: RawClient, begin: bytes) -> bytes:
    """Send `begin` and then one field until the server closes the connection; return its responses."""
    client.writer.write(begin)
    await client.writer.drain()
    return await trickle(client, b"a" * LARGEST_HEAD)


@pytest.mark.parametrize("begin", [PARTIAL, b"GET /", b"GET /a HTTP/1.1\r\nX"], ids=["value", "path", "name"])
async def test_a_head_without_end_is_431_and_the_connection_is_closed(begin: bytes) -> None:
    async with echoing() as server:
        sent = await flood(server.client, begin)
        assert sent == b"" or sent.startswith(b"HTTP/1.1 431 ")  # nothing if the rest of the flood has reset it
        assert server.registry.get_sample_value("predecir_refusals_total", {"rule": "http_431"}) == 1


@pytest.mark.parametrize("begin", [b"1;x=", b"1\r\na\r\n0\r\nX: "], ids=["extension", "trailer"])
async def test_a_chunk_without_end_is_431_and_the_connection_is_closed(begin: bytes) -> None:
    async with echoing() as server:
        sent = await flood(server.client, post(b"", b"Transfer-Encoding: chunked\r\n\r\n" + begin))
        assert sent == b"" or sent.startswith(b"HTTP/1.1 431 ")  # as above
        assert server.registry.get_sample_value("predecir_refusals_total", {"rule": "http_431"}) == 1


GET = b"GET /a HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"x:\r\n" * (MOST_FIELDS - 1), 200),
        (b"x:\r\n" * MOST_FIELDS, 431),
        (b"x: " + b"a" * (LARGEST_HEAD - 100) + b"\r\n", 200),
        (b"x: " + b"a" * LARGEST_HEAD + b"\r\n", 431),
        ((b"x: " + b"a" * 1000 + b"\r\n") * 33, 431),
    ],
    ids=["most-fields", "one-more", "largest", "larger", "many-large-fields"],
)
@pytest.mark.parametrize("piece", [100, 1_000_000])
async def test_a_whole_head_has_the_same_limits_however_it_arrives(fields: bytes, status: int, piece: int) -> None:
    sent = GET + fields + b"\r\n"
    async with echoing() as server:
        for start in range(0, len(sent), piece):
            server.client.writer.write(sent[start : start + piece])
            await asyncio.sleep(0)
        with nullcontext() if status == HTTPStatus.OK else suppress(ConnectionError):  # the rest may reset it
            assert (await server.client.response())[0] == status
        rejected = server.registry.get_sample_value("predecir_refusals_total", {"rule": "http_431"})
        assert rejected == (None if status == HTTPStatus.OK else 1)


async def test_a_request_before_a_head_that_is_too_large_gets_its_own_response() -> None:
    async with echoing() as server:
        server.client.writer.write(post(b"", LENGTH) + GET + b"x:\r\n" * 2 * MOST_FIELDS)
        assert (await server.received())[1] == "/a"
        assert await server.client.rest() == b""
        assert server.registry.get_sample_value("predecir_refusals_total", {"rule": "http_431"}) == 1


async def test_fields_of_trailers_are_not_kept() -> None:
    trailers = CHUNKED.removesuffix(b"\r\n") + b"x:\r\n" * 4000 + b"\r\n"
    async with echoing() as server:
        server.client.writer.write(post(b"", trailers))
        assert (await server.received())[3] == '{"a":1}'
        [connection] = server.connections
        assert len(connection.headers) == 0


async def test_requests_sent_far_ahead_are_not_read_and_the_connection_closes() -> None:
    async with echoing() as server:
        server.client.writer.write((GET + b"\r\n") * 1000)
        answered = await server.client.rest()
        assert answered.count(b"HTTP/1.1 200 ") == answered.count(b"HTTP/1.1") == MOST_PIPELINED + 1
        assert server.registry.get_sample_value("predecir_refusals_total", {"rule": "http_429"}) == 1


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    size = 64 * 1024 * 1024

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.body", "body": bytes(size)})

    async with echoing(large, timeout_keep_alive=1) as server:
        server.client.writer.write((GET + b"\r\n") * 2)  # the second waits until the first can be written
        await until(lambda: not server.connections)


async def test_for_one_connection_too_many_the_longest_idle_one_is_closed() -> None:
    async with echoing(most_connections=3) as server, AsyncExitStack() as clients:
        used = server.client
        opened = [await clients.enter_async_context(raw_client(server.port)) for _ in range(2)]
        opened[0].writer.write(PARTIAL)  # its head never ends
        used.writer.write(post(b"", LENGTH))
        await server.received()  # so it became idle after the others
        for lost in opened:
            new = await clients.enter_async_context(raw_client(server.port))
            new.writer.write(post(b"", LENGTH))
            assert (await new.response())[0] == 200
            with suppress(ConnectionError):
                assert await lost.rest() == b""
        used.writer.write(post(b"", LENGTH))
        await server.received()


async def test_a_connection_beyond_the_bound_of_busy_ones_is_503() -> None:
    release = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await release.wait()
        await echo(scope, receive, send)

    async with echoing(slow, most_connections=1) as server:
        server.client.writer.write(post(b"", LENGTH))
        await until(lambda: any(each.cycle is not None for each in server.connections))
        async with raw_client(server.port) as second:
            head, _, body = (await second.rest()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert json.loads(body)["type"] == "urn:predecir:problema:conexiones"
        release.set()
        assert (await server.received())[1] == "/a"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nHost: a.example\r\n\r\n", 400),
        (b"GET /health/live HTTP/1.1\r\nHost: localhost:text\r\n\r\n", 400),
        (b"GET /health/live HTTP/1.1\r\nHost: localhost:65536\r\n\r\n", 400),
        (b"GET /health/live HTTP/1.1\r\nHost: user@localhost\r\n\r\n", 400),
        (b"GET /health/live HTTP/1.1\r\n\r\n", 400),
        (b"GET http://a.example/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://localhost:1/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://localhost@a.example/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://a.example/health/live HTTP/1.1\r\nHost: a.example\r\n\r\n", 403),
        (b"GET HTTP://LocalHost/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET /health/live HTTP/1.1\r\nHost: localhost:\r\n\r\n", 200),
        (b"GET /health/live HTTP/1.0\r\n\r\n", 200),
    ],
)
async def test_a_request_has_one_host_and_its_target_the_same(sent: bytes, status: int) -> None:
    app = edge_app(http_app("test", registry=CollectorRegistry()), "localhost")
    async with echoing(app) as server:
        server.client.writer.write(sent)
        assert (await server.client.response())[0] == status


@pytest.mark.parametrize("sent", [b"Juana\r\n\r\n", PARTIAL, GET + b"x:\r\n" * 1000], ids=["400", "408", "431"])
async def test_a_response_without_a_request_has_the_security_headers(sent: bytes) -> None:
    async with echoing(head_seconds=HEAD_SECONDS) as server:
        server.client.writer.write(sent)
        head, body = await server.client.head_and_body()
        for name, value in SECURITY_HEADERS:
            assert f"{name.decode()}: {value.decode()}\r\n" in head
        assert "connection: close\r\n" in head
        assert json.loads(body)["status"] == int(head.split()[1])


async def test_only_the_head_has_that_limit_and_each_request_has_its_own() -> None:
    chunk, field = b"8000\r\n" + b"a" * 0x8000 + b"\r\n", b"X: " + b"a" * (LARGEST_HEAD // 2) + b"\r\n"
    async with echoing() as server:
        for _ in range(4):
            server.client.writer.write(post(field, b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 4 + b"0\r\n\r\n"))
            assert len((await server.received())[3]) == 4 * 0x8000


async def test_a_body_that_trickles_after_its_response_does_not_stay_open() -> None:
    async def reject(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    async with echoing(reject, head_seconds=HEAD_SECONDS) as server:
        server.client.writer.write(post(b"", b"Content-Length: 1000000\r\n\r\n"))
        assert (await server.client.response())[0] == 401
        await trickle(server.client, b"a")


async def test_a_response_is_not_cut_by_the_head_of_the_next_request() -> None:
    loop, release = asyncio.get_running_loop(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await release.wait()
        await echo(scope, receive, send)

    async with echoing(slow, head_seconds=HEAD_SECONDS) as server:
        server.client.writer.write(post(b"", LENGTH) + PARTIAL)
        loop.call_later(3 * HEAD_SECONDS, release.set)
        assert (await server.received())[3] == '{"a":1}'
        assert (await server.client.response())[0] == 408


async def test_a_complete_head_has_no_deadline_for_its_response() -> None:
    loop, release = asyncio.get_running_loop(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await release.wait()
        await echo(scope, receive, send)

    async with echoing(slow, head_seconds=HEAD_SECONDS) as server:
        server.client.writer.write(PARTIAL)
        await until(lambda: any(each.scope is not None for each in server.connections))  # its head has begun
        server.client.writer.write(b"alhost\r\n" + LENGTH[:-3])
        loop.call_later(3 * HEAD_SECONDS, server.client.writer.write, LENGTH[-3:])
        loop.call_later(3 * HEAD_SECONDS, release.set)
        assert (await server.received())[3] == '{"a":1}'


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "an-empty-line"])
async def test_a_connection_without_a_request_is_closed_after_the_idle_time(sent: bytes) -> None:
    async with echoing(timeout_keep_alive=1) as server:
        server.client.writer.write(sent)
        assert await server.client.rest() == b""


async def test_a_stop_closes_idle_connections_at_once() -> None:
    async with AsyncExitStack() as clients:
        protocol = server_protocol(Rejections(CollectorRegistry()), None)
        async with served(echo, protocol, timeout_keep_alive=3600) as server:
            opened = [await clients.enter_async_context(raw_client(server.port)) for _ in range(300)]
            for client in opened[::3]:
                client.writer.write(post(b"", LENGTH))
            for client in opened[::3]:
                assert (await client.response())[0] == 200
            for client in opened[1::3]:
                client.writer.write(PARTIAL)
            connections: set[Any] = server.server_state.connections
            await until(lambda: len(connections) == len(opened))
            await until(lambda: sum(each.scope is not None for each in connections) == len(opened) * 2 // 3)
        assert [await client.rest() for client in opened] == [b""] * len(opened)
