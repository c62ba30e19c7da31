"""The load client of the test kit: retries, kinds of failure and the record."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.support.load import Plan, load
from tests.support.ports import free_ports


@asynccontextmanager
async def rejecting_first(times: int) -> AsyncIterator[str]:
    """Run a server that rejects each patient so many `times` before it answers; yields its URL."""
    seen: Counter[int] = Counter()

    async def predict(request: web.Request) -> web.Response:
        number = (await request.json())["edad"]
        seen[number] += 1
        if seen[number] <= times:
            return web.json_response({}, status=503)
        return web.json_response({"id": f"id-{number}", "prediccion": "sano"})

    app = web.Application()
    app.router.add_post("/predecir", predict)
    runner = web.AppRunner(app)
    await runner.setup()
    [port] = free_ports(1)
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def test_only_a_request_with_a_key_is_repeated_until_answered() -> None:
    plan = Plan(lambda number: {"edad": number}, lambda number: None if number % 2 else f"k-{number}", first=10)
    async with rejecting_first(2) as url, load(url, plan, connections=1) as requests:
        await requests.more(8)
    tries = Counter(request.number for request in requests.all)
    assert [tries[number] for number in (10, 11, 12, 13)] == [3, 1, 3, 1]
    assert requests.answered[:2] == ["id-10", "id-12"]
    assert set(requests.rejected) == {503}
    assert requests.cut == 0


async def test_a_repeated_answer_is_recorded_twice() -> None:
    plan = Plan(lambda number: {"edad": number}, lambda number: f"k-{number}", lambda _: 2)
    async with rejecting_first(0) as url, load(url, plan, connections=1) as requests:
        await requests.more(4)
    assert requests.answered[:4] == ["id-0", "id-0", "id-1", "id-1"]


async def test_a_server_that_is_gone_is_counted_as_cut() -> None:
    [port] = free_ports(1)
    async with load(f"http://127.0.0.1:{port}", connections=1) as requests:
        await requests.more(2)
    failed, sent = requests.failed(0)
    assert requests.cut == failed == sent >= 2
    assert {request.failed for request in requests.all} == {"refused"}
