"""Each connection between two parts cut, silent, late, slow, truncated or dropped: calls end, and work continues."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from services.gateway.inference_client import open_remote_scorer
from services.recorder.db.tables import CUARENTENA
from shared.contracts.transport import Delivery, OutboxState, TransportDownError
from shared.diseases.thyroid import DatosPaciente
from tests.support.broker import Broker, hand_over, takes
from tests.support.bundles import make_bundle
from tests.support.faulty_network import Proxy, link_faults, proxied
from tests.support.gateway import HYPER, Client, gateway
from tests.support.postgres import PostgresServer
from tests.support.processes import running
from tests.support.recorder_suite import Recording, delivery, event, recording
from tests.support.targets import PostgresTarget, SqliteTarget
from tests.support.waiting import until

PATIENCE = 60
"""Seconds, far beyond every deadline set here."""
DEADLINE = 1.0

BROKEN = [pytest.param(fault, id=name) for name, fault in link_faults(late=20, slow=20, short=40).items()]
POOR = [
    pytest.param(partial(Proxy.delay, seconds=0.05), id="late"),
    pytest.param(partial(Proxy.throttle, bytes_per_second=200_000), id="slow"),
]


@pytest.fixture(scope="module")
def inference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run an inference service, to be reached over this network."""
    folder = tmp_path_factory.mktemp("inference")
    make_bundle(folder / "var", DatosPaciente)
    with running("services.inference", folder) as process, proxied(int(process.url.rpartition(":")[2])) as network:
        yield network


@pytest.fixture
def to_inference(inference: Proxy) -> Iterator[Proxy]:
    yield inference
    inference.heal()


async def predicts(client: Client) -> bool:
    return (await client.predict(HYPER)).status_code == 200


@pytest.mark.parametrize("broken", BROKEN[:-1])  # of many connections some are new, and not forgotten
async def test_without_inference_requests_are_rejected_until_it_is_back(
    tmp_path: Path, to_inference: Proxy, broken: Callable[[Proxy], None]
) -> None:
    url = f"http://127.0.0.1:{to_inference.port}"
    async with (
        open_remote_scorer(url, DatosPaciente, key=None, deadline=DEADLINE) as scorer,
        gateway(tmp_path, scorer=scorer, gateway_deadline_seconds=DEADLINE) as client,
    ):
        await until(lambda: predicts(client), seconds=PATIENCE)
        answered = client.answered()
        broken(to_inference)
        async with asyncio.timeout(PATIENCE):
            refused = await asyncio.gather(*(client.predict(HYPER) for _ in range(8)))
        assert {response.status_code for response in refused} == {503}
        assert {response.headers["content-type"] for response in refused} == {"application/problem+json"}
        assert client.answered() == answered  # no answer is stored that was not sent
        to_inference.heal()
        await until(lambda: predicts(client), seconds=PATIENCE)
        await until(lambda: len(client.recorder.deliveries) == client.answered(), seconds=PATIENCE)


@pytest.mark.parametrize("poor", POOR)
async def test_over_a_poor_network_to_inference_every_request_is_answered(
    tmp_path: Path, to_inference: Proxy, poor: Callable[[Proxy], None]
) -> None:
    url = f"http://127.0.0.1:{to_inference.port}"
    async with (
        open_remote_scorer(url, DatosPaciente, key=None, deadline=30) as scorer,
        gateway(tmp_path, scorer=scorer, gateway_deadline_seconds=30) as client,
    ):
        poor(to_inference)
        answers = await asyncio.gather(*(client.predict(HYPER) for _ in range(8)))
        assert {response.status_code for response in answers} == {200}


def over(broker: Broker, network: Proxy) -> Broker:
    """The same broker, reached over `network`."""
    return replace(broker, url=broker.url.replace(f":{broker.server.port}/", f":{network.port}/"))


@pytest.mark.parametrize("broken", BROKEN)
async def test_publishing_times_out_and_resumes_when_the_broker_is_back(
    broker: Broker, broken: Callable[[Proxy], None]
) -> None:
    await broker.declare()
    with proxied(broker.server.port) as network:
        async with over(broker, network).transport(confirm_seconds=DEADLINE) as transport:
            first, second = (delivery(seq, event(tsh=seq)) for seq in (1, 2))
            await hand_over(transport, [first])
            broken(network)
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(TransportDownError):
                    await transport.publish([second])
            network.heal()
            await until(lambda: takes(transport, second), seconds=PATIENCE)
    # A message whose confirmation did not arrive was published twice.
    assert {body[1:-1] for body in await broker.take(broker.topology.events.name)} == {first.body, second.body}


async def record_when_up(recorder: Recording, deliveries: Sequence[Delivery]) -> None:
    """Record `deliveries` as a relay does: again until the database takes them within its deadline."""

    async def taken() -> bool:
        with suppress(TransportDownError):
            await recorder.store.record(deliveries)
            return True
        return False

    await until(taken, seconds=PATIENCE)


async def recorded(recorder: Recording, count: int) -> None:
    """Wait until `count` predictions are rows; assert that they are the published ones, once each."""

    async def arrived() -> bool:
        return len(await recorder.rows()) >= count

    await until(arrived, seconds=PATIENCE)
    assert [row.seq for row in await recorder.rows()] == list(range(1, count + 1))
    assert await recorder.rows(CUARENTENA) == []


async def test_an_abandoned_connection_ends_no_task_that_waits_on_it(broker: Broker) -> None:
    await broker.declare()
    with proxied(broker.server.port) as network:
        async with over(broker, network).transport(confirm_seconds=5) as transport:
            await hand_over(transport, [delivery(1, event(tsh=1))])
            network.blackhole()
            publishing = asyncio.create_task(transport.publish([delivery(2, event(tsh=2))]))
            await asyncio.wait(
                {publishing}, timeout=4
            )  # it times out while the report waits, and closes the connection of both
            with pytest.raises(TransportDownError):
                await transport.report(OutboxState("g1", 2, 2))
            with pytest.raises(TransportDownError):
                await publishing


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_recorder_records_the_backlog_when_the_broker_is_back(
    broker: Broker, tmp_path: Path, broken: Callable[[Proxy], None]
) -> None:
    await broker.declare()
    with proxied(broker.server.port) as network:
        async with (
            recording(SqliteTarget(tmp_path / "p.db")) as recorder,
            over(broker, network).consumer(recorder.store, silence_seconds=0.2) as consumer,
            broker.transport() as transport,
        ):
            await hand_over(transport, [delivery(1)])
            await recorded(recorder, 1)
            broken(network)
            await until(lambda: not consumer.consuming, seconds=PATIENCE)
            await hand_over(transport, [delivery(2)])
            network.heal()
            await hand_over(transport, [delivery(3)])
            await recorded(recorder, 3)


@pytest.mark.parametrize("broken", BROKEN)
async def test_writing_times_out_and_resumes_when_the_database_is_back(
    postgres: PostgresServer, broken: Callable[[Proxy], None]
) -> None:
    behind = PostgresTarget(postgres, postgres.new_database())
    async with recording(behind) as direct:  # creates the tables, which may take longer than DEADLINE
        with proxied(postgres.port) as network:
            target = PostgresTarget(replace(postgres, port=network.port), behind.database)
            async with recording(target, statement_seconds=DEADLINE) as recorder:
                await record_when_up(recorder, [delivery(1)])
                broken(network)
                async with asyncio.timeout(PATIENCE):
                    with pytest.raises(TransportDownError, match="the database cannot be written"):
                        await recorder.store.record([delivery(2)])
                network.heal()
                await until(lambda: recorder.store.down() is None, seconds=PATIENCE)
                await record_when_up(recorder, [delivery(2)])
                await recorded(direct, 2)
                await until(lambda: behind.open_transactions() == 0, seconds=PATIENCE)
