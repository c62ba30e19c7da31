"""A hostile publisher beside a gateway: the gateway's answers are recorded."""

from pathlib import Path

from chaos.faults.hostile_publisher import KINDS, HostilePublisher
from shared.cancellation import background
from tests.contract.test_recorder_store import SqliteTarget
from tests.support.broker import Broker, hand_over
from tests.support.recorder_suite import delivery, recording
from tests.support.waiting import until


async def test_a_gateways_answers_are_recorded_beside_a_hostile_publisher(broker: Broker, tmp_path: Path) -> None:
    await broker.declare()
    hostile = HostilePublisher(broker.url, broker.topology, pause_seconds=0)
    sent = 0
    async with recording(SqliteTarget(tmp_path / "p.db")) as recorder, broker.consumer(recorder.store):
        async with broker.transport() as transport, background(hostile.run()):
            while hostile.kinds.keys() != KINDS.keys():
                sent += 1
                await hand_over(transport, [delivery(sent)])

        async def recorded() -> bool:
            return {row.seq for row in await recorder.rows() if row.gateway_id == "g1"} >= set(range(1, sent + 1))

        await until(recorded, seconds=60)
