"""The same request fifty times at once, over two gateways: one row, and the same answer every time."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.broker import Broker
from tests.support.postgres import PostgresServer
from tests.support.processes import Process
from tests.support.stack import ids, server_stack
from tests.support.waiting import until_now

KEYS = 100
AT_ONCE = 50


async def ask(urls: tuple[str, str]) -> list[list[dict[str, Any]]]:
    """Send each key `AT_ONCE` times at the same moment, half to each gateway; return the answers by key."""

    async def once(client: aiohttp.ClientSession, url: str, number: int) -> dict[str, Any]:
        patient = {"edad": 1 + number % 90, "sexo": "F", "tsh": 1 + number / 10}
        headers = {"Idempotency-Key": f"caso {number}"}
        async with client.post(f"{url}/predecir", json=patient, headers=headers) as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
            return answer

    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as client:
        return [
            await asyncio.gather(*(once(client, urls[each % 2], number) for each in range(AT_ONCE)))
            for number in range(KEYS)
        ]


def counted(recorder: Process, field: str) -> int:
    """Sum up `field` of all gateways' accounts."""
    return sum(gateway[field] for gateway in recorder.get("/conciliacion").json()["gateways"])


def test_a_hundred_keys_sent_fifty_times_are_a_hundred_rows(
    tmp_path: Path, broker: Broker, postgres: PostgresServer
) -> None:
    with (
        server_stack(tmp_path, broker) as stack,
        stack.another_gateway() as another,
        stack.recorder(postgres.url(database := postgres.new_database())) as recorder,
    ):
        answers = asyncio.run(ask((stack.gateway.url, another.url)))
        for same in answers:
            assert all(answer == same[0] for answer in same)
        expected = sorted(same[0]["id"] for same in answers)
        assert len(set(expected)) == KEYS

        # The first run of a recorder opens its queues some seconds after it consumes: a gateway may answer all before.
        until_now(lambda: stack.pending() + stack.pending(another) == 0, seconds=60)
        assert (stack.gateway.stop(), another.stop()) == (0, 0)
        until_now(lambda: counted(recorder, "respondidas") == 2 * KEYS, seconds=60)  # both have sent their last report
        until_now(lambda: counted(recorder, "en_camino") == 0, seconds=60)
        assert (counted(recorder, "registradas"), counted(recorder, "duplicadas")) == (KEYS, KEYS)
        assert ids(recorder) == expected
        assert postgres.query(database, "SELECT count(*) FROM predicciones") == [KEYS]
        assert postgres.query(database, "SELECT count(*) FROM cuarentena") == [0]
