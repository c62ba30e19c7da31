"""The limits of deploy/haproxy/haproxy.cfg in a real HAProxy, with the whole file but for addresses and names."""

import asyncio
import itertools
import json
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from shared.web.load_shedding import server_protocol
from shared.web.rejections import Rejections
from shared.web.security_headers import SECURITY_HEADERS
from tests.support.certificate import self_signed
from tests.support.haproxy import Deployed, haproxy_deployed
from tests.support.http2 import Http2Client, http2_client
from tests.support.loop_thread import in_loop_thread
from tests.support.raw_http import RawClient, raw_client, served
from tests.support.unfinished import LARGEST_ADDRESS, LARGEST_BODY, LARGEST_FIELDS, SOURCES, UNFINISHED, unfinished
from tests.support.waiting import until

KEY = "pdk_doctor"
PER_SOURCE = 100
"""Silent requests of each source: below the limit of a source, and with 10 sources 8 times a gateway's 128 places."""
PUBLIC = {"/", "/health/live", "/health/ready"}
REQUESTS_OF_SOURCE, CONNECTIONS_OF_SOURCE, UNAUTHORISED_OF_SOURCE = 128, 1_024, 100
SECONDS = 60
OWN_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"content-security-policy", b"default-src 'self'")]
"""Security headers of the gateway, whose page has a policy of its own."""


@dataclass(slots=True)
class Gateway:
    """Answers requests with a key of `keys` or to GET `PUBLIC`, others with 401. It counts the heads that arrive."""

    keys: set[str] = field(default_factory=lambda: {KEY})
    arrived: Counter[str] = field(default_factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer when the body is complete."""
        key = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        if not scope["path"].startswith("/health"):
            self.arrived[key] += 1
        while (await receive()).get("more_body", False):
            pass
        is_public = scope["method"] == "GET" and scope["path"] in PUBLIC
        status = 200 if key in self.keys or is_public else 401
        body = json.dumps({"id": str(self.arrived.total()), "prediccion": "sin_alteracion"}).encode()
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        headers += OWN_HEADERS
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True, slots=True)
class Front:
    """A gateway behind HAProxy."""

    gateway: Gateway
    balancer: Deployed
    certificate: str | None

    @property
    def log(self) -> str:
        """What HAProxy has logged."""
        return self.balancer.process.errors()

    @asynccontextmanager
    async def client(self, source: str = "127.0.0.1", *, tls: bool = False) -> AsyncIterator[RawClient]:
        """Connect from `source`."""
        port, context = self.balancer.clear, None
        if tls:
            port, context = self.balancer.tls, trusting(self.certificate)
        opened = await asyncio.open_connection("127.0.0.1", port, ssl=context, local_addr=(source, 0))
        client = RawClient(*opened)
        try:
            yield client
        finally:
            client.writer.close()

    async def ask(self, request: bytes, source: str = "127.0.0.1", *, tls: bool = False) -> tuple[int, str]:
        """Send `request` on a connection of its own; return the status, and head and body in small letters."""
        async with self.client(source, tls=tls) as client:
            client.writer.write(request)
            head, body = await client.head_and_body()
        return int(head.split()[1]), head + body.decode().lower()

    async def repeat(self, request: bytes, times: int, source: str) -> Counter[int]:
        """Send `request` so many times, each when the one before is answered; return the number of each status."""
        return Counter([(await self.ask(request, source))[0] for _ in range(times)])


@cache
def trusting(certificate: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=certificate)


def post(*, key: str | None = KEY, body: bytes = b"{}", fields: str = "", path: str = "/predecir") -> bytes:
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}{fields}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def front(folder: Path, *, tls: bool = False, proxies: str | None = None) -> AsyncIterator[Front]:
    """Run a gateway behind HAProxy; yields them once a request reaches the gateway."""
    certificates, certificate = None, None
    if tls:
        certificates = folder / "tls"
        certificates.mkdir()
        certificate = self_signed(certificates / "predecir.pem")
    gateway = Gateway()
    serving = served(gateway, server_protocol(Rejections(CollectorRegistry()), None))
    with (  # in a thread, so that it answers health checks while the test opens a thousand connections
        in_loop_thread(serving, seconds=SECONDS) as server,
        haproxy_deployed(folder, [server.port], certificates=certificates, proxies=proxies) as balancer,
    ):
        running = Front(gateway, balancer, certificate)

        async def ready() -> bool:
            return (await running.ask(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n", tls=tls))[0] == 200

        await until(ready, seconds=SECONDS)
        yield running


@asynccontextmanager
async def doctors(front: Front, *, tls: bool, number: int = 4) -> AsyncIterator[list[int]]:
    """Send requests with an accepted key meanwhile, over `number` connections; yields the list of statuses."""
    statuses: list[int] = []
    stopping = asyncio.Event()

    async def work() -> None:
        async with front.client(tls=tls) as client:
            while not stopping.is_set():
                client.writer.write(post())
                statuses.append((await client.response())[0])
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(number):
            tasks.create_task(work())
        try:
            yield statuses
        finally:
            stopping.set()


async def refusal(client: RawClient) -> int | None:
    """Return the status of the response; None if it was lost, because the client was sending when HAProxy closed."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        return (await client.response())[0]
    return None


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
async def test_a_thousand_unfinished_requests_take_no_place(tmp_path: Path, *, tls: bool) -> None:
    forms = list(itertools.islice(itertools.cycle(UNFINISHED.values()), PER_SOURCE))
    async with front(tmp_path, tls=tls) as running, doctors(running, tls=tls) as statuses, AsyncExitStack() as opened:
        silent = []
        for (request, _), source in itertools.product(forms, SOURCES):
            client = await opened.enter_async_context(running.client(source, tls=tls))
            client.writer.write(request)
            silent.append(client)
        responses = [await refusal(client) for client in silent]
        before = len(statuses)
        await until(lambda: len(statuses) >= before + 10, seconds=SECONDS)
    for response, ((_, status), _) in zip(responses, itertools.product(forms, SOURCES), strict=True):
        assert response == status or (status == 413 and response is None)
    assert set(statuses) == {200}
    assert running.gateway.arrived == {KEY: len(statuses)}


async def test_unfinished_requests_of_http2_take_no_place(tmp_path: Path) -> None:
    bodies = [b"", b" " * 10_000, b" " * 25_000]
    async with front(tmp_path, tls=True) as running, doctors(running, tls=True) as statuses, AsyncExitStack() as opened:
        context = ssl.create_default_context(cadata=running.certificate)
        clients: list[Http2Client] = []
        for source in SOURCES * (PER_SOURCE // len(bodies)):
            client = await opened.enter_async_context(http2_client(running.balancer.tls, context, source))
            for body in bodies:
                client.send(body, fields={}, complete=False)
            clients.append(client)
        await until(lambda: all(len(client.statuses) == len(bodies) for client in clients), seconds=SECONDS)
        complete = clients[0].send(b"{}", fields={"authorization": f"Bearer {KEY}"}, complete=True)
        await until(lambda: complete in clients[0].statuses, seconds=SECONDS)
        assert clients[0].statuses.pop(complete) == 200
    assert {status for client in clients for status in client.statuses.values()} == {408}
    assert set(statuses) == {200}
    assert running.gateway.arrived == {KEY: len(statuses) + 1}


@pytest.mark.parametrize(
    ("request_", "status", "title"),
    [
        (post(body=b" " * (LARGEST_BODY + 1)), 413, "petición demasiado grande"),
        (post(fields=f"X: {'a' * LARGEST_FIELDS}\r\n"), 431, "la cabecera de la petición es demasiado grande"),
        (post(path="/predecir?" + "a" * LARGEST_ADDRESS), 431, "la cabecera de la petición es demasiado grande"),
        (post().replace(b"Host: localhost\r\n", b""), 400, "la petición no se entiende"),
    ],
    ids=["body", "fields", "address", "no host"],
)
async def test_a_request_outside_the_rules_is_rejected_as_a_problem(
    tmp_path: Path, request_: bytes, status: int, title: str
) -> None:
    async with front(tmp_path) as running:
        answer = await running.ask(request_)
        largest = await running.ask(post(body=b" " * LARGEST_BODY))
    assert answer[0] == status
    assert "content-type: application/problem+json\r\n" in answer[1]
    assert f'"title":"{title}","status":{status}' in answer[1]
    assert largest[0] == 200
    assert running.gateway.arrived == {KEY: 1}


@pytest.mark.parametrize(
    "request_",
    [
        post(fields="Host: other.example\r\n"),
        post(path="http://other.example/predecir"),
        post(path="http://localhost:81/predecir"),
    ],
    ids=["two hosts", "target of another host", "target of another port"],
)
async def test_a_request_that_names_two_hosts_is_rejected(tmp_path: Path, request_: bytes) -> None:
    async with front(tmp_path) as running:
        assert (await running.ask(request_))[0] == 400
        assert (await running.ask(post(path="http://localhost/predecir")))[0] == 200
    assert running.gateway.arrived == {KEY: 1}


def sent_once(answer: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether `answer` has each of `headers`, and no other of its name."""
    return all(
        re.findall(rf"^{name.decode()}: (.*)\r$", answer, re.MULTILINE) == [value.decode()] for name, value in headers
    )


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 503),
        (b"GET /predicciones HTTP/1.1\r\nHost: localhost\r\n\r\n", 503),
        (unfinished(fields="Content-Length: 50\r\n"), 408),
        (post(body=b" " * (LARGEST_BODY + 1)), 413),
        (post(fields=f"X: {'a' * LARGEST_FIELDS}\r\n"), 431),
        (post().replace(b"Host: localhost\r\n", b""), 400),
    ],
    ids=["no gateway", "no recorder", "late body", "body", "fields", "no host"],
)
async def test_a_response_of_the_balancer_itself_has_the_security_headers(
    tmp_path: Path, request_: bytes, status: int
) -> None:
    with haproxy_deployed(tmp_path, []) as balancer:
        async with raw_client(balancer.clear) as client:
            client.writer.write(request_)
            head, _ = await client.head_and_body()
    assert int(head.split()[1]) == status
    assert sent_once(head, SECURITY_HEADERS)


async def test_a_response_of_a_service_keeps_its_own_security_headers(tmp_path: Path) -> None:
    async with front(tmp_path) as running:
        status, answer = await running.ask(post())
    assert (status, sent_once(answer, OWN_HEADERS)) == (200, True)
    assert "cross-origin-resource-policy" not in answer


@asynccontextmanager
async def silent(front: Front, source: str, number: int) -> AsyncIterator[None]:
    """Keep so many unfinished requests open from `source`: each that is refused is sent again."""

    async def work() -> None:
        while True:
            async with front.client(source) as client:
                client.writer.write(unfinished(fields="Content-Length: 50\r\n"))
                await refusal(client)

    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(work()) for _ in range(number)]
        try:
            yield
        finally:
            for task in working:
                task.cancel()


async def test_one_source_has_128_unfinished_requests_and_a_doctor_there_goes_on(tmp_path: Path) -> None:
    [source, other, *_] = SOURCES
    page = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    refusals = []
    async with front(tmp_path) as running:
        assert (await running.ask(post(), source))[0] == 200

        async def refused() -> bool:
            status, answer = await running.ask(page, source)
            refusals.append(answer)
            return status == 429

        async with silent(running, source, REQUESTS_OF_SOURCE):
            await until(refused, seconds=SECONDS)
            assert '"type":"urn:predecir:problema:origen_saturado"' in refusals[-1]
            assert "retry-after: 1\r\n" in refusals[-1]
            assert sent_once(refusals[-1], SECURITY_HEADERS)
            assert await running.repeat(post(), 20, source) == {200: 20}
            assert (await running.ask(page, other))[0] == 200


async def test_one_source_has_an_eighth_of_the_connections(tmp_path: Path) -> None:
    [source, other, *_] = SOURCES
    async with front(tmp_path) as running, AsyncExitStack() as opened:
        for _ in range(CONNECTIONS_OF_SOURCE):
            last = await opened.enter_async_context(running.client(source))
        last.writer.write(post())
        assert (await last.response())[0] == 200
        with suppress(ConnectionError):  # it may be closed before the client's system reports that it is open
            async with running.client(source) as refused:
                assert await refused.rest() == b""
        assert (await running.ask(post(), other))[0] == 200


def logged(running: Front, status: int) -> list[str]:
    """Return the addresses of HAProxy's lines about responses with `status`."""
    lines = re.findall(r"^(\S+):\d+ \[[^]]+\] public\S* \S+ \S+ (\d+) ", running.log, re.MULTILINE)
    return [address for address, code in lines if int(code) == status]


async def test_a_401_is_logged_with_its_address_and_an_answer_is_not(tmp_path: Path) -> None:
    async with front(tmp_path) as running:
        assert (await running.ask(post(), SOURCES[0]))[0] == 200
        assert (await running.ask(post(key="wrong"), SOURCES[1]))[0] == 401
        assert (await running.ask(post(key=None), SOURCES[2]))[0] == 401
        await until(lambda: len(logged(running, 401)) == 2, seconds=SECONDS)
    assert logged(running, 401) == SOURCES[1:3]
    assert logged(running, 200) == []
    assert "wrong" not in running.log


async def test_wrong_keys_are_slowed_and_doctors_at_that_address_are_not(tmp_path: Path) -> None:
    [source, other, *_] = SOURCES
    async with front(tmp_path) as running:
        running.gateway.keys.add("colleague")
        assert (await running.ask(post(), source))[0] == 200
        wrong = await running.repeat(post(key="wrong"), 3 * UNAUTHORISED_OF_SOURCE, source)
        assert wrong.keys() == {401, 429}
        assert UNAUTHORISED_OF_SOURCE <= wrong[401] <= UNAUTHORISED_OF_SOURCE + 2
        assert wrong[401] == running.gateway.arrived["wrong"]
        status, answer = await running.ask(post(key=None), source)
        assert (status, '"type":"urn:predecir:problema:sin_clave_valida"' in answer) == (429, True)
        assert "retry-after: 10\r\n" in answer
        assert sent_once(answer, SECURITY_HEADERS)
        assert (await running.ask(post(), source))[0] == 200
        assert (await running.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", source))[0] == 200
        assert (await running.ask(post(key="colleague"), other))[0] == 200
        assert len(logged(running, 401)) <= UNAUTHORISED_OF_SOURCE + 2


async def test_a_mistyped_key_slows_nobody(tmp_path: Path) -> None:
    async with front(tmp_path) as running:
        assert await running.repeat(post(key="mistyped"), UNAUTHORISED_OF_SOURCE // 2, SOURCES[0]) == {401: 50}
        assert (await running.ask(post(), SOURCES[0]))[0] == 200


async def test_a_revoked_key_is_slowed_like_any_other(tmp_path: Path) -> None:
    async with front(tmp_path) as running:
        assert (await running.ask(post(), SOURCES[0]))[0] == 200
        running.gateway.keys.clear()
        revoked = await running.repeat(post(), 2 * UNAUTHORISED_OF_SOURCE, SOURCES[0])
    assert revoked[429] > 0


async def test_a_wrong_key_on_a_page_without_key_does_not_become_accepted(tmp_path: Path) -> None:
    page = post(key="wrong").replace(b"POST /predecir", b"GET /")
    async with front(tmp_path) as running:
        assert (await running.ask(page, SOURCES[0]))[0] == 200
        wrong = await running.repeat(post(key="wrong"), 2 * UNAUTHORISED_OF_SOURCE, SOURCES[0])
    assert wrong[429] > 0


@pytest.mark.parametrize("path", ["/%68ealth/live", "/health%2Flive"])
async def test_another_spelling_of_a_public_address_makes_no_key_accepted(tmp_path: Path, path: str) -> None:
    public = post(key="garbage").replace(b"POST /predecir", b"GET " + path.encode())
    async with front(tmp_path) as running:
        assert (await running.ask(public, SOURCES[0]))[0] == 200
        assert (await running.repeat(post(key="wrong"), 2 * UNAUTHORISED_OF_SOURCE, SOURCES[0]))[429] > 0
        assert (await running.ask(post(key="garbage"), SOURCES[0]))[0] == 429
    assert running.gateway.arrived["garbage"] == 0


@pytest.mark.parametrize("line", [b"GET /pagina/a/b", b"GET /health/none", b"POST /health/live"])
async def test_401s_of_one_source_are_logged_to_a_bound_at_every_address(tmp_path: Path, line: bytes) -> None:
    request = post(key=None).replace(b"POST /predecir", line)
    async with front(tmp_path) as running:
        statuses = await running.repeat(request, 2 * UNAUTHORISED_OF_SOURCE, SOURCES[0])
        assert statuses[401] >= UNAUTHORISED_OF_SOURCE
        assert (await running.ask(post(key="wrong"), SOURCES[1]))[0] == 401
        await until(lambda: SOURCES[1] in logged(running, 401), seconds=SECONDS)
        assert logged(running, 401).count(SOURCES[0]) <= UNAUTHORISED_OF_SOURCE + 2


async def test_behind_a_proxy_the_source_is_the_client_that_it_names(tmp_path: Path) -> None:
    [proxy, *clients] = SOURCES
    named = [f"X-Forwarded-For: 192.0.2.1, {client}\r\n" for client in clients]
    async with front(tmp_path, proxies=f"10.0.0.0/8 {proxy}") as running, AsyncExitStack() as opened:
        slow = await running.repeat(post(key="wrong", fields=named[0]), 2 * UNAUTHORISED_OF_SOURCE, proxy)
        assert slow[429] > 0
        assert (await running.ask(post(key="wrong", fields=named[1]), proxy))[0] == 401
        assert (await running.ask(post(key="wrong", fields=named[0]), clients[2]))[0] == 401  # not a proxy
        for _ in range(CONNECTIONS_OF_SOURCE + 1):
            last = await opened.enter_async_context(running.client(proxy))
        last.writer.write(post())
        assert (await last.response())[0] == 200
        assert set(logged(running, 401)) == {clients[0], clients[1], clients[2]}


async def test_with_tls_the_other_port_takes_no_key(tmp_path: Path) -> None:
    async with front(tmp_path, tls=True) as running:
        status, answer = await running.ask(post())
        assert (status, '"type":"urn:predecir:problema:sin_cifrar"' in answer) == (403, True)
        assert sent_once(answer, SECURITY_HEADERS)
        assert running.gateway.arrived == {}
        assert (await running.ask(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] == 200
        for request, expected in ((post(), 200), (post(key=None), 401), (post().replace(b"Host", b"X"), 400)):
            status, answer = await running.ask(request, tls=True)
            assert (status, "strict-transport-security: max-age=31536000\r\n" in answer) == (expected, True)


async def test_without_tls_there_is_no_promise_of_it(tmp_path: Path) -> None:
    async with front(tmp_path) as running:
        status, answer = await running.ask(post())
    assert (status, "strict-transport-security" in answer) == (200, False)
