"""The recorder's client of RabbitMQ's management API, against servers that answer without end, slowly or elsewhere.

`tests/integration/test_broker_path.py` does the same against RabbitMQ.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from structlog.testing import capture_logs

from services.recorder.ingest import policies
from services.recorder.ingest.policies import LARGEST_ANSWER, log_lossy_policies, read_management_url
from shared.broker.topology import topology

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def reason(answer: Answer) -> str:
    """Return why the policies are unknown."""
    async with serving(answer) as url:
        management = read_management_url(SecretStr(url), "amqp://recorder:geheim@localhost/")
        with capture_logs() as logs:
            await log_lossy_policies(management, topology("predecir"))
    [line] = logs
    assert line["event"] == "broker_policies_unknown"
    return str(line["reason"])


async def test_an_endless_answer_is_cut_off() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 64 * LARGEST_ANSWER:
            try:
                await response.write(b" " * 64 * 1024)
            except ConnectionError:
                break
            sent += 64 * 1024
        return response

    assert await reason(endless) == f"BROKER_MANAGEMENT_URL answers more than {LARGEST_ANSWER} bytes"
    assert sent < 16 * LARGEST_ANSWER


async def test_an_answer_byte_by_byte_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "IN_ALL_SECONDS", 0.5)
    ended = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        deadline = time.monotonic() + 30
        while not ended.is_set() and time.monotonic() < deadline:
            await response.write(b" ")
            await asyncio.sleep(0.02)
        return response

    started = time.monotonic()
    assert (await reason(slow)).startswith("BROKER_MANAGEMENT_URL: ")
    ended.set()
    assert time.monotonic() < started + 20


async def test_a_redirect_is_not_followed() -> None:
    requested: list[str] = []

    async def redirect(request: web.Request) -> web.StreamResponse:
        requested.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"}, reason="a text of the server")

    assert await reason(redirect) == "BROKER_MANAGEMENT_URL answers 302 Found"
    assert "/elsewhere" not in requested
