"""Messages that cannot be recorded are quarantined, and second deliveries absorbed, without effect on others."""

import asyncio
from itertools import cycle, islice
from pathlib import Path
from random import Random

from chaos.faults.foreign_publisher import foreign_publisher
from chaos.faults.poison import KINDS, PoisonFactory
from services.recorder.db.tables import CUARENTENA
from services.recorder.ingest.trust import GatewayTrust, TrustPolicy
from shared.contracts.gateway_proof import GatewayKey
from tests.support.broker import Broker, hand_over
from tests.support.enrolment import SECRET
from tests.support.recorder_suite import Recording, delivery, recording
from tests.support.targets import SqliteTarget, Target
from tests.support.waiting import until

MESSAGES = 1000
POISON = 20
GENUINE = GatewayKey.generate()
"""The key of a gateway that is not compromised."""


def seen(recorder: Recording, name: str) -> float:
    """Return the sum of a counter of the recorder over its labels."""
    samples = (sample for metric in recorder.registry.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name == f"predecir_recorder_{name}_total")


def trusting(recorder: Recording) -> GatewayTrust:
    return GatewayTrust(TrustPolicy(SECRET), recorder.store)


async def aside(recorder: Recording) -> list[bytes]:
    rows = await recorder.rows(CUARENTENA)
    assert all(row.motivo for row in rows)
    return sorted(row.cuerpo for row in rows)


async def test_twenty_poisonous_messages_of_a_thousand_are_quarantined(broker: Broker, target: Target) -> None:
    factory = PoisonFactory(Random(8), SECRET)  # noqa: S311 - repeatable
    poison = [factory.make(kind) for kind in islice(cycle(KINDS), POISON)]
    await broker.declare()
    async with (
        recording(target) as recorder,
        broker.transport(GENUINE, secret=SECRET) as transport,
        broker.consumer(recorder.store, trust=trusting(recorder)),
    ):
        start = 1
        for bad in poison:
            good = range(start, start := start + (MESSAGES - POISON) // POISON)
            await asyncio.gather(*(transport.publish([delivery(seq, gateway=GENUINE.gateway_id)]) for seq in good))
            await broker.put(bad.body, bad.content_type, bad.headers)
        beside = sorted(event_id for bad in poison for event_id in bad.recorded)
        everything = MESSAGES + len(beside)
        await until(
            lambda: seen(recorder, "predictions_recorded") + seen(recorder, "quarantined") == everything, seconds=60
        )
        rows = await recorder.rows()
        assert [row.seq for row in rows if row.gateway_id == GENUINE.gateway_id] == list(
            range(1, MESSAGES - POISON + 1)
        )
        assert sorted(row.id for row in rows if row.gateway_id == factory.gateway_id) == beside
        assert await aside(recorder) == sorted(bad.aside for bad in poison)
    for queue in (broker.topology.events, broker.topology.dead):
        assert await broker.take(queue.name) == []


async def test_messages_that_come_twice_between_poison_become_one_row_each(broker: Broker, tmp_path: Path) -> None:
    await broker.declare()
    async with (
        recording(SqliteTarget(tmp_path / "p.db")) as recorder,
        broker.consumer(recorder.store, trust=trusting(recorder)),
    ):
        with foreign_publisher(
            broker.url, broker.topology, SECRET, seed=3, poison_seconds=0.01, doubled_share=1
        ) as publisher:
            await until(lambda: len(publisher.sent) > len(KINDS), seconds=60)
            async with broker.transport(GENUINE, secret=SECRET) as transport:
                for start in range(1, 400, 20):
                    await hand_over(
                        transport, [delivery(seq, gateway=GENUINE.gateway_id) for seq in range(start, start + 20)]
                    )
            await until(lambda: publisher.doubled >= 20, seconds=60)
        await until(lambda: seen(recorder, "quarantined") == len(publisher.sent), seconds=60)
        await until(lambda: seen(recorder, "duplicates") >= 20 * publisher.doubled, seconds=60)
        rows = await recorder.rows()
        assert [row.seq for row in rows if row.gateway_id == GENUINE.gateway_id] == list(range(1, 401))
        assert await aside(recorder) == sorted(bad.aside for bad in publisher.sent)
        assert publisher.kinds.keys() == KINDS.keys()
