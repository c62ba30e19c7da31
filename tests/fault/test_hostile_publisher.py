"""A hostile publisher beside a gateway: the gateway's answers are recorded, and nothing false is believed."""

from pathlib import Path

from chaos.faults.hostile_publisher import KINDS, HostilePublisher
from services.recorder.db.tables import CUARENTENA
from services.recorder.ingest.trust import GatewayTrust, TrustPolicy
from shared.cancellation import background
from shared.contracts.gateway_proof import GatewayKey
from tests.support.broker import Broker, hand_over
from tests.support.enrolment import SECRET
from tests.support.recorder_suite import delivery, recording
from tests.support.targets import SqliteTarget
from tests.support.waiting import until


async def test_beside_a_hostile_publisher_all_answers_and_no_false_event_are_recorded(
    broker: Broker, tmp_path: Path
) -> None:
    key = GatewayKey.generate()
    hostile = HostilePublisher(broker.url, broker.topology, SECRET, pause_seconds=0)
    sent = 0
    await broker.declare()
    async with recording(SqliteTarget(tmp_path / "p.db")) as recorder:
        trust = GatewayTrust(TrustPolicy(SECRET), recorder.store)
        async with broker.consumer(recorder.store, trust=trust):
            async with broker.transport(key, secret=SECRET) as transport, background(hostile.run()):
                while hostile.kinds.keys() != KINDS.keys():
                    sent += 1
                    await hand_over(transport, [delivery(sent, gateway=key.gateway_id)])

            async def all_recorded() -> bool:
                recorded = {row.seq for row in await recorder.rows() if row.gateway_id == key.gateway_id}
                aside = {row.cuerpo for row in await recorder.rows(CUARENTENA)}
                forged = {body for message in hostile.confirmed for body in message.aside}
                return recorded == set(range(1, sent + 1)) and forged <= aside

            async def claimed() -> bool:
                accounts = await recorder.account()
                return hostile.gateway_id in accounts and accounts[hostile.gateway_id].unsupported is not None

            await until(all_recorded, seconds=60)
            await until(claimed, seconds=60)
        accounts = await recorder.account()
        own = [accounts[each] for each in (key.gateway_id, hostile.gateway_id)]
        assert [(each.answered, each.missing, each.in_transit) for each in own] == [(sent, 0, 0), (0, 0, 0)]
        assert own[0].unsupported is None
        false_ids = {event_id for message in hostile.sent for event_id in message.false_ids}
        assert not false_ids & {row.id for row in await recorder.rows()}
