"""The contract of the store on PostgreSQL, and properties of PostgreSQL only."""

import asyncio
import uuid

import pytest
from sqlalchemy import func, select

from services.recorder.db.tables import CUARENTENA, PREDICCIONES
from shared.contracts.transport import OutboxState, TransportDownError
from tests.support.postgres import PostgresServer
from tests.support.recorder_suite import *  # noqa: F403 - the suite itself
from tests.support.recorder_suite import Recording, delivery, event, recording
from tests.support.reports_suite import *  # noqa: F403 - the suite of reports
from tests.support.targets import PostgresTarget, Target
from tests.support.waiting import until


@pytest.fixture
def target(postgres: PostgresServer) -> Target:
    return PostgresTarget(postgres, postgres.new_database())


async def test_a_restart_of_the_server_loses_nothing(recorder: Recording, postgres: PostgresServer) -> None:
    first = delivery(1)
    await recorder.store.record([first])
    postgres.stop()
    try:
        with pytest.raises(TransportDownError, match="the database cannot be written"):
            await recorder.store.record([delivery(2)])
    finally:
        postgres.start()

    await until(lambda: recorder.store.down() is None)
    assert await recorder.store.record([first, delivery(2)]) == {1, 2}
    assert [row.seq for row in await recorder.rows()] == [1, 2]


async def test_only_the_event_that_postgresql_rejects_is_quarantined(recorder: Recording) -> None:
    batch = [delivery(1), delivery(2, event(note="NUL: \0")), delivery(3, b"unreadable")]

    for _ in range(2):
        assert await recorder.store.record(batch) == {1, 2, 3}

    assert [row.seq for row in await recorder.rows()] == [1]
    assert (await recorder.account(OutboxState("g1", 3, 4)))["g1"].missing == 0
    assert recorder.registry.get_sample_value("predecir_recorder_quarantined_total", {"kind": "refused"}) == 1


async def test_a_disk_that_fills_up_after_a_rejected_value_changes_nothing(
    recorder: Recording, target: PostgresTarget
) -> None:
    raises = """CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.seq = 1 THEN RAISE 'a value' USING ERRCODE = '22000'; END IF;
        RAISE 'no space left' USING ERRCODE = '53100'; END $$"""
    create = "CREATE TRIGGER reject BEFORE INSERT ON predicciones FOR EACH ROW EXECUTE FUNCTION reject()"
    target.server.query(target.database, raises, create, "SELECT 1")
    batch = [delivery(seq, event(event_id=str(uuid.UUID(int=seq)))) for seq in (1, 2)]

    with pytest.raises(TransportDownError, match=r"^the database cannot be written: no space left$"):
        await recorder.store.record(batch)

    assert (await recorder.rows(), await recorder.rows(CUARENTENA)) == ([], [])


async def test_recorders_with_the_same_events_do_not_deadlock(target: Target) -> None:
    batch = [delivery(seq) for seq in range(1, 4001)]
    async with recording(target) as one, recording(target) as other:
        for start in range(0, 4000, 1000):
            part = batch[start : start + 1000]
            await asyncio.gather(one.store.record(part), other.store.record(part[::-1]), other.store.record(part))
        assert len(await one.rows()) == 4000


async def test_the_columns_have_their_postgresql_types(recorder: Recording, target: PostgresTarget) -> None:
    await recorder.store.record([delivery(1)])

    types = "SELECT data_type FROM information_schema.columns WHERE table_name = 'predicciones' AND column_name = "
    kinds = {
        name: target.server.query(target.database, f"{types}'{name}'")[0]
        for name in ("id", "timestamp", "inputs", "probabilidades", "probabilidad")
    }
    assert kinds == {
        "id": "uuid",
        "timestamp": "timestamp with time zone",
        "inputs": "jsonb",
        "probabilidades": "jsonb",
        "probabilidad": "double precision",
    }


async def test_several_recorders_that_start_at_once_migrate_once(target: Target) -> None:
    async def start() -> int:
        async with recording(target, busy_seconds=20) as one, one.database.readers.connect() as connection:
            return (await connection.execute(select(func.count()).select_from(PREDICCIONES))).scalar_one()

    assert await asyncio.gather(*(start() for _ in range(6))) == [0] * 6
