"""Broker, database and recorder, as processes, killed or stopped under load: every answer is recorded once."""

import asyncio
import random
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import httpx
import pytest

from tests.support.broker import Broker
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.processes import Process
from tests.support.stack import Stack, ids, server_stack
from tests.support.waiting import until_now

KILLS = 5


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """Run a server that other tests do not use."""
    with postgres_server() as running:
        yield running


def answered(asked: list[Future[httpx.Response]]) -> list[str]:
    responses = [request.result() for request in asked]
    assert {response.status_code for response in responses} == {200}
    return sorted(response.json()["id"] for response in responses)


def settled(stack: Stack, recorder: Process, expected: list[str]) -> None:
    """Wait until everything is recorded, and see that nothing is doubled, missing or set aside."""
    until_now(lambda: stack.pending() == 0 and ids(recorder) == expected, seconds=60)
    account = recorder.get("/conciliacion").json()
    assert account["diferencia"] == 0
    assert [gateway["en_cuarentena"] for gateway in account["gateways"]] == [0]


def test_a_broker_killed_under_load_loses_and_doubles_nothing(tmp_path: Path, broker: Broker) -> None:
    with server_stack(tmp_path, broker) as stack, stack.recorder() as recorder:
        stack.predict()
        until_now(lambda: len(ids(recorder)) == 1, seconds=30)
        first = ids(recorder)
        with stack.load(400) as asked:
            until_now(lambda: sum(request.done() for request in asked) > 50)
            broker.server.kill()
            until_now(lambda: sum(request.done() for request in asked) > 200)  # answered without a broker
            broker.server.start()
        settled(stack, recorder, sorted(first + answered(asked)))


def test_a_database_stopped_under_load_gets_every_answer_once(
    tmp_path: Path, broker: Broker, own_postgres: PostgresServer
) -> None:
    database = own_postgres.url(own_postgres.new_database())
    with server_stack(tmp_path, broker) as stack, stack.recorder(database) as recorder:
        stack.predict()
        until_now(lambda: len(ids(recorder)) == 1, seconds=30)
        first = ids(recorder)
        with stack.load(400) as asked:
            until_now(lambda: sum(request.done() for request in asked) > 50, seconds=60)
            own_postgres.stop()
            until_now(lambda: recorder.get("/health/ready").status_code == 503, seconds=30)
            until_now(lambda: sum(request.done() for request in asked) > 300, seconds=60)  # answered without it
            own_postgres.start()
        settled(stack, recorder, sorted(first + answered(asked)))
    assert asyncio.run(broker.take(broker.topology.dead.name)) == []


def test_recorders_killed_at_any_moment_leave_one_row_per_answer(tmp_path: Path, broker: Broker) -> None:
    seed = random.Random(5)  # noqa: S311 - when to kill, repeatably
    with server_stack(tmp_path, broker) as stack, stack.load(600) as asked:
        for _ in range(KILLS):
            with stack.recorder() as recorder:
                before, more = len(ids(recorder)), seed.randrange(1, 60)
                until_now(lambda: len(ids(recorder)) >= before + more or all(request.done() for request in asked))  # noqa: B023 - called at once
                recorder.kill()
        with stack.recorder() as recorder:
            settled(stack, recorder, answered(asked))
