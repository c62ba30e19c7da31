"""The recorder believes only messages that their gateway proves: on a real broker, and on both databases."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from pamqp.common import FieldValue
from structlog.testing import capture_logs

from services.gateway.outbox.outbox import Outbox
from services.recorder.db.tables import CUARENTENA
from services.recorder.enrolment.keys import EnrolledKey, read_keys
from services.recorder.ingest.trust import GatewayTrust, TrustPolicy
from shared.contracts.event_batches import CONTENT_TYPE, LARGEST_SEQ, Batch, split
from shared.contracts.gateway_proof import PUBLIC_KEY, SIGNATURE, Claim, GatewayKey
from shared.contracts.outbox_status import CONTENT_TYPE as STATUS
from shared.contracts.outbox_status import OutboxStatus, write_status
from shared.contracts.transport import Delivery, OutboxState
from tests.support.broker import Broker
from tests.support.enrolment import SECRET
from tests.support.old_outbox import OLD_ID, old_outbox
from tests.support.paths import ROOT
from tests.support.postgres import PostgresServer
from tests.support.recorder_suite import NOW, Recording, account, event, recording
from tests.support.targets import PostgresTarget, SqliteTarget, Target
from tests.support.waiting import until


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteTarget:
    return SqliteTarget(tmp_path / "predicciones.db")


def made(gateway_id: str, first: int, last: int) -> list[Delivery]:
    return [Delivery(gateway_id, seq, event()) for seq in range(first, last + 1)]


def packed(gateway_id: str, first: int, last: int) -> Batch:
    [batch] = split(made(gateway_id, first, last), last)
    return batch


def headers_of(batch: Batch, key: GatewayKey, secret: bytes | None = None) -> Mapping[str, FieldValue]:
    """Return the headers of `batch` with a proof by `key`."""
    claim = Claim("events", batch.gateway_id, batch.seqs.start, len(batch.seqs), batch.body)
    return {**batch.headers, **key.proof(claim, secret)}


def trusting(recorder: Recording, *, most_gateways: int = 100, unsigned: bool = False) -> GatewayTrust:
    return GatewayTrust(TrustPolicy(SECRET, most_gateways, unsigned=unsigned), recorder.store)


async def settled(recorder: Recording, *, recorded: int, unproven: int) -> None:
    """Wait until so many predictions are recorded, and so many messages are quarantined."""
    seen = recorder.registry.get_sample_value

    await until(
        lambda: (
            seen("predecir_recorder_predictions_recorded_total") == recorded
            and seen("predecir_recorder_quarantined_total", {"kind": "unproven"}) == unproven
        ),
        seconds=30,
    )


async def enrolled(recorder: Recording) -> list[EnrolledKey]:
    return await read_keys(recorder.database.readers)


def command(target: Target, *arguments: str) -> tuple[int, list[str]]:
    """Run a command of the recorder; return its exit code and what it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.recorder", *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "DATABASE_URL": target.url},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout.splitlines()


async def test_a_gateway_with_the_secret_is_enrolled_by_its_first_message(target: Target, broker: Broker) -> None:
    key = GatewayKey.generate()
    await broker.declare()
    with capture_logs() as logs:
        async with (
            recording(target) as recorder,
            broker.transport(key, secret=SECRET) as transport,
            broker.consumer(recorder.store, trust=trusting(recorder)),
        ):
            for first in (1, 301):
                await transport.publish(made(key.gateway_id, first, first + 299))
            await transport.report(OutboxState(key.gateway_id, 600, 601))
            await settled(recorder, recorded=600, unproven=0)
            await until(lambda: _reported(recorder, key.gateway_id))
            assert (await recorder.account())[key.gateway_id].missing == 0
            [row] = await enrolled(recorder)
    assert (row.gateway_id, row.public_key, row.origin) == (key.gateway_id, key.public_key.hex(), "secreto")
    assert [line["gateway_id"] for line in logs if line["event"] == "gateway_enrolled"] == [key.gateway_id]


async def _reported(recorder: Recording, gateway_id: str) -> bool:
    accounts = await recorder.account()
    return gateway_id in accounts and accounts[gateway_id].last_report is not None


def forgeries(genuine: GatewayKey, hostile: GatewayKey) -> list[tuple[Batch, Mapping[str, FieldValue]]]:
    """Messages of a compromised gateway, which has a key of its own, the secret, and a message of `genuine` to copy."""
    batch, sent = packed(genuine.gateway_id, 4, 5), packed(genuine.gateway_id, 1, 3)
    own, copied = headers_of(batch, hostile, SECRET), headers_of(sent, genuine, SECRET)
    return [
        (batch, batch.headers),  # without a proof
        (batch, own),
        (batch, {**own, PUBLIC_KEY: genuine.public_key.hex()}),
        (batch, {**own, PUBLIC_KEY: copied[PUBLIC_KEY], SIGNATURE: copied[SIGNATURE]}),
        (sent, {**copied, "first-seq": LARGEST_SEQ // 2}),  # other numbers
        (batch, {**batch.headers, SIGNATURE: "none"}),
    ]


async def test_messages_in_the_name_of_another_gateway_are_set_aside(target: Target, broker: Broker) -> None:
    """Each is one row with its bytes, and neither its account nor its report changes."""
    genuine, hostile = GatewayKey.generate(), GatewayKey.generate()
    forged = forgeries(genuine, hostile)
    status = write_status(OutboxStatus(OutboxState(genuine.gateway_id, LARGEST_SEQ, LARGEST_SEQ), NOW))
    proof = hostile.proof(Claim("status", hostile.gateway_id, 0, 0, status), SECRET)
    await broker.declare()
    async with (
        recording(target) as recorder,
        broker.transport(genuine, secret=SECRET) as transport,
        broker.consumer(recorder.store, trust=trusting(recorder)),
    ):
        await transport.publish(made(genuine.gateway_id, 1, 3))
        await settled(recorder, recorded=3, unproven=0)
        before = await recorder.account()
        with capture_logs() as logs:
            for message, headers in forged:
                await broker.put(message.body, CONTENT_TYPE, headers)
            for headers in ({}, proof):
                await broker.put(status, STATUS, headers, broker.topology.states)
            await settled(recorder, recorded=3, unproven=len(forged))
            await until(lambda: len(refused(logs, "status")) == 2)

        assert await recorder.account() == before
        rows = await recorder.rows(CUARENTENA)
        assert Counter(row.cuerpo for row in rows) == Counter(message.body for message, _ in forged)
        assert all(row.gateway_id == "" and genuine.gateway_id in row.motivo for row in rows)
        assert [key.gateway_id for key in await enrolled(recorder)] == [genuine.gateway_id]
    assert {gateway for gateway, _ in refused(logs, "events")} == {genuine.gateway_id}


async def test_a_genuine_message_sent_again_changes_nothing(sqlite: SqliteTarget, broker: Broker) -> None:
    key = GatewayKey.generate()
    batch = packed(key.gateway_id, 1, 3)
    await broker.declare()
    async with recording(sqlite) as recorder, broker.consumer(recorder.store, trust=trusting(recorder)):
        for _ in range(3):
            await broker.put(batch.body, CONTENT_TYPE, headers_of(batch, key, SECRET))
        duplicates = "predecir_recorder_duplicates_total"
        await until(lambda: recorder.registry.get_sample_value(duplicates) == 6, seconds=30)
        assert await recorder.account() == {key.gateway_id: account(key.gateway_id, 3, recorded=3, last_report=None)}


async def test_an_unknown_gateway_is_not_enrolled_without_the_right_token(sqlite: SqliteTarget, broker: Broker) -> None:
    none, wrong, beyond, known = (GatewayKey.generate() for _ in range(4))
    tokens = ((known, SECRET), (none, None), (wrong, b"another secret"), (beyond, SECRET))
    await broker.declare()
    async with recording(sqlite) as recorder:
        async with broker.consumer(recorder.store, trust=trusting(recorder, most_gateways=1)):
            for number, (key, secret) in enumerate(tokens):
                batch = packed(key.gateway_id, 1, 1)
                await broker.put(batch.body, CONTENT_TYPE, headers_of(batch, key, secret))
                await settled(recorder, recorded=1, unproven=number)
        reasons = [row.motivo.partition(";")[0] for row in await recorder.rows(CUARENTENA)]
        assert Counter(reasons) == Counter(
            [
                "not believed: its gateway is unknown",
                "not believed: its gateway is unknown, and its enrolment token is wrong",
                "not believed: its gateway is unknown, and 1 are enrolled (RECORDER_MAX_GATEWAYS)",
            ]
        )
        assert [key.gateway_id for key in await enrolled(recorder)] == [known.gateway_id]


async def test_a_gateway_enrolled_later_gets_its_waiting_messages_recorded(target: Target, broker: Broker) -> None:
    key = GatewayKey.generate()
    await broker.declare()
    async with recording(target) as recorder, broker.transport(key) as transport:
        async with broker.consumer(recorder.store, trust=trusting(recorder)):
            for first in (1, 4):
                await transport.publish(made(key.gateway_id, first, first + 2))
            await transport.publish([Delivery(key.gateway_id, 7, b"not JSON")])
            await settled(recorder, recorded=0, unproven=3)
        assert await recorder.account() == {}

    replay = ("quarantine", "replay", "--gateway", key.gateway_id)
    code, lines = command(target, *replay)
    assert (code, [line.partition(": ")[2] for line in lines]) == (1, ["stays: its gateway is unknown"] * 3)
    code, [refusal] = command(target, "gateways", "add", key.gateway_id)
    assert (code, refusal.partition(";")[0]) == (1, "gateways: a public key has 64 hexadecimal digits")
    assert command(target, "gateways", "add", key.public_key.hex()) == (0, [f"{key.gateway_id}: enrolled"])
    code, lines = command(target, *replay)
    assert (code, sorted(line.partition(": ")[2] for line in lines)) == (
        0,
        ["recorded: 1 unreadable", "recorded: 3 predictions", "recorded: 3 predictions"],
    )
    async with recording(target) as recorder:
        assert await recorder.account() == {
            key.gateway_id: account(key.gateway_id, 7, recorded=6, quarantined=1, last_report=None)
        }
        assert [row.cuerpo for row in await recorder.rows(CUARENTENA)] == [b"not JSON"]


async def test_a_revoked_gateway_is_refused_also_with_the_secret(target: Target, broker: Broker) -> None:
    key = GatewayKey.generate()
    await broker.declare()
    assert command(target, "gateways", "add", key.public_key.hex())[0] == 0
    assert command(target, "gateways", "revoke", key.gateway_id) == (0, [f"{key.gateway_id}: revoked"])
    assert command(target, "gateways", "add", key.public_key.hex()) == (1, ["gateways: its gateway is revoked"])
    assert command(target, "gateways", "revoke", "nobody")[0] == 1
    async with recording(target) as recorder, broker.transport(key, secret=SECRET) as transport:
        trust = trusting(recorder)
        for refreshed in (False, True):  # a recorder that has not read the revocation yet finds it at the enrolment
            if refreshed:
                await trust.refresh(recorder.database.readers)
            async with broker.consumer(recorder.store, trust=trust):
                await transport.publish(made(key.gateway_id, 1, 2))
                await settled(recorder, recorded=0, unproven=1 + refreshed)
        rows = await recorder.rows(CUARENTENA)
        assert {row.motivo.partition(";")[0] for row in rows} == {"not believed: its gateway is revoked"}

    code, lines = command(target, "gateways", "list")
    assert (code, len(lines)) == (0, 1)
    assert lines[0].startswith(f"{key.gateway_id}  {key.public_key.hex()}  operador  ")
    assert "  revoked " in lines[0]
    ids = [str(row.id) for row in rows]
    assert command(target, "quarantine", "replay", *ids)[0] == 1
    assert command(target, "quarantine", "replay", "--unproven", *ids)[0] == 0
    async with recording(target) as recorder:
        assert {row.seq for row in await recorder.rows()} == {1, 2}


async def test_a_running_recorder_notices_who_was_enrolled_and_revoked(postgres: PostgresServer) -> None:
    target = PostgresTarget(postgres, postgres.new_database())
    key = GatewayKey.generate()
    claim = Claim("events", key.gateway_id, 1, 1, b"[{}]")
    async with recording(target) as recorder:
        trust = GatewayTrust(TrustPolicy(), recorder.store)
        for arguments, objection in (
            (("gateways", "list"), "its gateway is unknown"),
            (("gateways", "add", key.public_key.hex()), None),
            (("gateways", "revoke", key.gateway_id), "its gateway is revoked"),
        ):
            assert command(target, *arguments)[0] == 0
            await trust.refresh(recorder.database.readers)
            assert await trust.objection(claim, key.proof(claim)) == objection


async def test_unsigned_messages_are_believed_only_by_the_setting_and_of_old_ids(
    sqlite: SqliteTarget, broker: Broker
) -> None:
    """An id that is a fingerprint is never believed without its signature."""
    key = GatewayKey.generate()
    await broker.declare()
    async with recording(sqlite) as recorder, broker.transport() as transport:
        async with broker.consumer(recorder.store, trust=trusting(recorder)):
            await transport.publish(made(OLD_ID, 1, 2))
            await settled(recorder, recorded=0, unproven=1)
        async with broker.consumer(recorder.store, trust=trusting(recorder, unsigned=True)):
            await transport.publish(made(key.gateway_id, 1, 2))
            await transport.publish(made(OLD_ID, 3, 4))
            await settled(recorder, recorded=2, unproven=2)
        assert {(row.gateway_id, row.seq) for row in await recorder.rows()} == {(OLD_ID, 3), (OLD_ID, 4)}
    command(sqlite, "quarantine", "replay", "--unproven", "--gateway", OLD_ID)
    async with recording(sqlite) as recorder:
        assert await recorder.account() == {OLD_ID: account(OLD_ID, 4, recorded=4, last_report=None)}


async def test_an_upgraded_gateway_delivers_what_waited_and_closes_its_old_account(
    sqlite: SqliteTarget, broker: Broker, tmp_path: Path
) -> None:
    await old_outbox(tmp_path / "outbox.db", event(), event())
    outbox = await Outbox.open(tmp_path / "outbox.db", keep_answers=60)
    await outbox.append(event())
    await broker.declare()
    async with (
        recording(sqlite) as recorder,
        broker.transport(*outbox.keys.values(), secret=SECRET) as transport,
        broker.consumer(recorder.store, trust=trusting(recorder, unsigned=True)),
    ):
        while outbox.pending:
            segments = await outbox.segments(1000)
            await transport.publish([delivery for segment in segments for delivery in segment])
            await outbox.discard(segments)
        await settled(recorder, recorded=3, unproven=0)
        for state in outbox.reported_states:
            await transport.report(state)
        await until(lambda: _reported(recorder, outbox.gateway_id))
        await until(lambda: _reported(recorder, OLD_ID))
        counts = {
            gateway_id: (each.answered, each.recorded, each.in_outbox, each.in_transit, each.missing)
            for gateway_id, each in (await recorder.account()).items()
        }
    assert counts == {OLD_ID: (2, 2, 0, 0, 0), outbox.gateway_id: (1, 1, 0, 0, 0)}
    await outbox.close()


async def test_a_message_that_comes_again_is_one_row_of_the_quarantine(sqlite: SqliteTarget, broker: Broker) -> None:
    """The broker adds headers to a redelivered message; other claims with the same body are other messages."""
    key = GatewayKey.generate()
    batch = packed(key.gateway_id, 1, 2)
    headers = headers_of(batch, key)
    await broker.declare()
    async with recording(sqlite) as recorder, broker.consumer(recorder.store, trust=trusting(recorder)):
        for number in range(3):
            await broker.put(batch.body, CONTENT_TYPE, {**headers, "x-redelivered": number})
        await broker.put(batch.body, CONTENT_TYPE, {**headers, "first-seq": 5})
        await settled(recorder, recorded=0, unproven=2)
        assert len(await recorder.rows(CUARENTENA)) == 2


async def test_two_recorders_enrol_a_gateway_once_and_keep_the_limit(postgres: PostgresServer) -> None:
    target = PostgresTarget(postgres, postgres.new_database())
    keys = [GatewayKey.generate() for _ in range(8)]
    async with recording(target) as one, recording(target) as other:
        trusts = [trusting(recorder, most_gateways=5) for recorder in (one, other)]
        objections = await asyncio.gather(*(_objection(trust, key) for key in keys for trust in trusts))
        listed = await enrolled(one)
    assert len(listed) == 5
    believed = {key.gateway_id for key in keys} & {each for each, objection in objections if objection is None}
    assert believed == {key.gateway_id for key in listed}


async def _objection(trust: GatewayTrust, key: GatewayKey) -> tuple[str, str | None]:
    claim = Claim("events", key.gateway_id, 1, 1, b"[{}]")
    return key.gateway_id, await trust.objection(claim, key.proof(claim, SECRET))


def refused(logs: Sequence[Mapping[str, object]], kind: str) -> list[tuple[object, object]]:
    """Return gateway and reason of the logged messages of `kind` that were not believed."""
    lines = (line for line in logs if line["event"] == "messages_not_believed" and line["kind"] == kind)
    return [(line["gateway_id"], line["reason"]) for line in lines]
