"""Contract of the recorder's store, run on SQLite and on PostgreSQL.

A test file imports everything from this module and defines the fixture `target`: a new database that can be disturbed.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import orjson
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, Table, bindparam, inspect, select, text

from services.recorder.accounting.command import forget_claims
from services.recorder.accounting.reconcile import MOST_LISTED, Account, Others, reconcile
from services.recorder.api.models import Filtro, split_unreadable
from services.recorder.api.queries import BadCursorError, read_one, read_page
from services.recorder.app import no_outboxes
from services.recorder.db.database import Database, Writer, open_database
from services.recorder.db.migrate import alembic_config, migrate
from services.recorder.db.tables import CUARENTENA, METADATA, PREDICCIONES, RESULTADOS
from services.recorder.db.types import UtcTimestamp
from services.recorder.ingest.store import Store
from services.recorder.metrics import Metrics
from shared.contracts.event_batches import LARGEST_SEQ
from shared.contracts.events import Feedback, write_feedback, write_prediction
from shared.contracts.scoring import ModelFacts, Score
from shared.contracts.transport import Delivery, OutboxState, TransportDownError
from shared.database_url import read_url
from tests.support.targets import RefusingTarget, Target
from tests.support.waiting import until

T = TypeVar("T")
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = START + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Recording:
    """An open store, and its database to read directly."""

    store: Store
    database: Database
    registry: CollectorRegistry

    async def rows(self, table: Table = PREDICCIONES) -> Sequence[Any]:
        async with self.database.readers.connect() as connection:
            return (await connection.execute(select(table).order_by(table.c.seq))).all()

    async def account(self, *states: OutboxState, later: float = 0) -> dict[str, Account]:
        """Return the accounts at `later` seconds after NOW."""

        async def outboxes() -> Sequence[OutboxState]:
            return states

        found = await reconcile(self.database.readers, outboxes, NOW + timedelta(seconds=later))
        return {account.gateway_id: account for account in found.accounts}


@asynccontextmanager
async def recording(
    target: Target, *, busy_seconds: float = 0.05, statement_seconds: float = 30
) -> AsyncIterator[Recording]:
    registry = CollectorRegistry()
    url = read_url(target.url)
    async with open_database(url, busy_seconds=busy_seconds, statement_seconds=statement_seconds) as database:
        store = Store(database.writer, Metrics(registry))
        async with store.watched(every_seconds=0.02):
            yield Recording(store, database, registry)


@pytest.fixture
async def recorder(target: Target) -> AsyncIterator[Recording]:
    async with recording(target) as opened:
        yield opened


def event(  # noqa: PLR0913 - each is one fact of the event
    *,
    event_id: str | None = None,
    time: datetime = START,
    tsh: float | None = 1.37,
    note: str = "ñandú",
    output: str = "negativo",
    version: str = "3",
    probability: float = 0.9123456789012345,
    reference: str | None = None,
    plausible: Sequence[str] | None = None,
    key_id: str = "",
) -> bytes:
    classes = ("negativo", "hipertiroidismo")
    model = ModelFacts(
        name="tiroides",
        version=version,
        digest="d" * 64,
        patient_digest="a" * 64,
        columns=("tsh",),
        classes=classes,
        prevalence={},
        low_prevalence=(),
        training_ranges={},
        never_missing=(),
    )
    other = round(1 - probability, 16)
    probabilities = [probability, other] if output == "negativo" else [other, probability]
    return write_prediction(
        event_id=event_id or str(uuid.uuid4()),
        source="gateway",
        time=time.isoformat(),
        inputs={"edad": 41, "sexo": "F", "tsh": tsh, "observación": note},
        output=output,
        score=Score(probabilities, model),
        reference=reference,
        plausible=plausible,
        key_id=key_id,
    )


def feedback_event(  # noqa: PLR0913 - each is one fact of the event
    prediction_id: str,
    diagnosis: str | None = None,
    *,
    event_id: str | None = None,
    time: datetime = START,
    reason: str | None = None,
    key_id: str = "",
) -> bytes:
    feedback = Feedback(prediccion=prediction_id, aceptada=diagnosis is None, diagnostico=diagnosis, motivo=reason)
    return write_feedback(
        event_id=event_id or str(uuid.uuid4()),
        source="gateway",
        time=time.isoformat(),
        feedback=feedback,
        key_id=key_id,
    )


def delivery(seq: int, body: bytes | None = None, *, gateway: str = "g1") -> Delivery:
    return Delivery(gateway, seq, event() if body is None else body)


def account(
    gateway_id: str,
    answered: int,
    *,
    last_report: datetime | None = NOW,
    unsupported: int | None = None,
    **counts: int,
) -> Account:
    parts = ("recorded", "duplicates", "quarantined", "in_outbox", "in_transit", "missing")
    numbers = dict.fromkeys(parts, 0) | counts
    return Account(gateway_id, answered, **numbers, last_report=last_report, unsupported=unsupported)


async def test_a_recorded_row_holds_the_event_exactly(recorder: Recording) -> None:
    body = event(time=datetime(2026, 3, 1, 13, 30, 0, 250000, tzinfo=UTC))
    before = datetime.now(UTC)

    assert await recorder.store.record([delivery(1, body)]) == {1}

    (row,) = await recorder.rows()
    sent = orjson.loads(body)
    assert str(row.id) == sent["id"]
    assert row.timestamp == datetime(2026, 3, 1, 13, 30, 0, 250000, tzinfo=UTC)
    assert row.timestamp.tzinfo is not None
    assert row.inputs == sent["data"]["inputs"]
    assert row.output == "negativo"
    assert row.probabilidad == 0.9123456789012345
    assert row.probabilidades == sent["data"]["probabilidades"]
    assert (row.modelo, row.modelo_version, row.modelo_digest) == ("tiroides", "3", "d" * 64)
    assert row.paciente_digest == "a" * 64
    assert (row.gateway_id, row.seq, row.hash) == ("g1", 1, sent["datahash"])
    assert before <= row.registrado <= datetime.now(UTC)


async def test_an_empty_batch_records_nothing(recorder: Recording) -> None:
    assert await recorder.store.record([]) == set()


async def test_a_redelivered_batch_changes_nothing(recorder: Recording) -> None:
    batch = [delivery(seq) for seq in range(1, 301)]
    await recorder.store.record(batch[:200])

    assert await recorder.store.record(batch) == set(range(1, 301))

    assert [row.seq for row in await recorder.rows()] == list(range(1, 301))
    assert recorder.registry.get_sample_value("predecir_recorder_predictions_recorded_total") == 300
    assert recorder.registry.get_sample_value("predecir_recorder_duplicates_total") == 200
    assert (await recorder.account(OutboxState("g1", 300, 301)))["g1"] == account("g1", 300, recorded=300)


async def test_another_answer_under_the_same_id_is_quarantined(recorder: Recording) -> None:
    first = event(event_id="0190a1b2-0000-7000-8000-000000000001", tsh=1)
    other = event(event_id="0190a1b2-0000-7000-8000-000000000001", tsh=2)
    await recorder.store.record([delivery(1, first)])

    batch = [delivery(9, other, gateway="g2"), delivery(10, gateway="g2")]
    for _ in range(2):
        assert await recorder.store.record(batch) == {9, 10}

    kept, new = await recorder.rows()
    assert (kept.hash, kept.inputs["tsh"], new.seq) == (orjson.loads(first)["datahash"], 1, 10)
    (quarantined,) = await recorder.rows(CUARENTENA)
    assert (quarantined.gateway_id, quarantined.seq, bytes(quarantined.cuerpo)) == ("g2", 9, other)
    assert str(quarantined.prediccion_id) == "0190a1b2-0000-7000-8000-000000000001"
    assert quarantined.motivo == "its id is recorded with another question or answer"
    assert recorder.registry.get_sample_value("predecir_recorder_quarantined_total", {"kind": "conflict"}) == 1


async def test_two_answers_of_one_id_in_a_batch_keep_the_first(
    recorder: Recording,
) -> None:
    same = "0190a1b2-0000-7000-8000-000000000002"
    await recorder.store.record([delivery(1, event(event_id=same, tsh=1)), delivery(2, event(event_id=same, tsh=2))])

    assert [row.seq for row in await recorder.rows()] == [1]
    assert [row.seq for row in await recorder.rows(CUARENTENA)] == [2]
    assert await recorder.account() == {"g1": account("g1", 2, recorded=1, quarantined=1, last_report=None)}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"\x00\xffnot json", "not JSON", id="bytes"),
        pytest.param(b'"text"', "not an event of type prediccion.realizada or ", id="not-an-object"),
        pytest.param(event().replace(b'"version":1', b'"version":7', 1), "unknown version", id="version"),
        pytest.param(event().replace(b"1.37", b"1.38", 1), "its datahash does not hold", id="hash"),
        pytest.param(event(event_id="UNA"), "its id is not a canonical UUID", id="id"),
        pytest.param(event().replace(b'"source"', b'"sauce"', 1), "fields missing or wrong: source", id="field"),
        pytest.param(
            event().replace(b'"negativo":0', b'"\\u0000\\n":"?","negativo":0', 1),
            "fields missing or wrong: data.probabilidades",
            id="name-with-nul",
        ),
    ],
)
async def test_an_unreadable_event_is_quarantined_once_with_its_bytes(
    recorder: Recording, body: bytes, reason: str
) -> None:
    batch = [delivery(1), delivery(2, body), delivery(3)]
    for _ in range(2):
        assert await recorder.store.record(batch) == {1, 2, 3}

    (quarantined,) = await recorder.rows(CUARENTENA)
    assert bytes(quarantined.cuerpo) == body
    assert quarantined.motivo.startswith(reason)
    assert recorder.registry.get_sample_value("predecir_recorder_quarantined_total", {"kind": "unreadable"}) == 1
    assert (await recorder.account(OutboxState("g1", 3, 4)))["g1"].missing == 0


async def test_a_request_answered_by_two_gateways_is_one_row(recorder: Recording) -> None:
    body = event()
    await recorder.store.record([delivery(1), delivery(2, body), delivery(3)])

    batch = [delivery(1, body, gateway="g2"), delivery(2, gateway="g2")]
    for _ in range(2):
        await recorder.store.record(batch)

    assert len(await recorder.rows()) == 4
    accounts = await recorder.account(OutboxState("g1", 3, 4), OutboxState("g2", 2, 3))
    assert accounts == {
        "g1": account("g1", 3, recorded=3),
        "g2": account("g2", 2, recorded=1, duplicates=1),
    }


async def test_a_request_answered_twice_in_one_batch_is_one_row(recorder: Recording) -> None:
    body = event()
    await recorder.store.record([delivery(1, body), delivery(2, body)])

    assert (await recorder.account(OutboxState("g1", 2, 3)))["g1"] == account("g1", 2, recorded=1, duplicates=1)


async def test_other_bytes_of_a_quarantined_seq_are_kept_as_well(recorder: Recording) -> None:
    """A forged message at the next seq of a gateway, and a forged answer under the next id, come before the answer."""
    answer_id = "0190a1b2-0000-7000-8000-000000000005"
    genuine = event(event_id=answer_id, tsh=1)
    await recorder.store.record([delivery(1, event(event_id=answer_id, tsh=2), gateway="forged"), delivery(1, b"\x00")])
    for _ in range(2):
        await recorder.store.record([delivery(1, genuine)])

    assert [(row.seq, bytes(row.cuerpo)) for row in await recorder.rows(CUARENTENA)] == [(1, b"\x00"), (1, genuine)]
    assert (await recorder.account(OutboxState("g1", 1, 2)))["g1"] == account("g1", 1, quarantined=1)


async def test_a_recorder_of_version_0_1_quarantines_beside_this_one(recorder: Recording) -> None:
    """During an upgrade: it writes no digest of the event."""
    columns = "recibido, motivo, gateway_id, seq, cuerpo"
    statement = f"INSERT INTO cuarentena ({columns}) VALUES (:now, 'not JSON', 'g1', 1, :body) ON CONFLICT DO NOTHING"  # noqa: S608 - no input
    write = text(statement).bindparams(bindparam("now", NOW, UtcTimestamp), bindparam("body", b"\x00"))
    for _ in range(2):
        await recorder.database.writer.transaction(lambda connection: connection.execute(write))
    assert [(row.seq, bytes(row.cuerpo)) for row in await recorder.rows(CUARENTENA)] == [(1, b"\x00")]


async def test_a_seq_that_is_recorded_and_quarantined_counts_once(recorder: Recording) -> None:
    same = "0190a1b2-0000-7000-8000-000000000003"
    await recorder.store.record([delivery(1, event(event_id=same, tsh=1))])
    await recorder.store.record([delivery(1, event(event_id=same, tsh=2))])

    assert len(await recorder.rows(CUARENTENA)) == 1
    assert (await recorder.account(OutboxState("g1", 1, 2)))["g1"] == account("g1", 1, recorded=1)


async def test_a_gap_below_the_oldest_pending_seq_is_missing(recorder: Recording) -> None:
    await recorder.store.record([delivery(1), delivery(2, b"unreadable"), delivery(4), delivery(5)])

    accounts = await recorder.account(OutboxState("g1", answered=7, oldest_pending=5))

    assert accounts["g1"] == account("g1", 7, recorded=3, quarantined=1, in_outbox=2, missing=1)


async def test_a_gap_of_a_gateway_without_a_report_is_missing(recorder: Recording) -> None:
    await recorder.store.record([delivery(2, gateway="away"), delivery(5, b"unreadable", gateway="away")])

    expected = account("away", 5, recorded=1, quarantined=1, missing=3, last_report=None)
    assert await recorder.account() == {"away": expected}


async def test_all_answers_of_a_gateway_without_rows_are_missing(recorder: Recording) -> None:
    accounts = await recorder.account(OutboxState("g1", answered=3, oldest_pending=4))

    assert accounts["g1"].missing == 3


async def test_one_absurd_number_changes_no_sum_and_is_named(recorder: Recording) -> None:
    await recorder.store.record([delivery(seq) for seq in range(1, 101)])
    await recorder.store.record([delivery(LARGEST_SEQ), delivery(LARGEST_SEQ - 1, b"unreadable")])

    assert await recorder.account() == {
        "g1": account("g1", 100, recorded=100, last_report=None, unsupported=LARGEST_SEQ)
    }
    reported = await recorder.account(OutboxState("g1", 101, 101))
    assert reported == {"g1": account("g1", 101, recorded=100, in_outbox=1, unsupported=LARGEST_SEQ)}


async def test_a_forgotten_claim_counts_no_more_but_later_answers_do(recorder: Recording) -> None:
    await recorder.store.record([delivery(seq) for seq in range(1, 101)])
    forged = [delivery(500, event()), delivery(LARGEST_SEQ, b"unreadable"), delivery(7, gateway="nobody")]
    await recorder.store.record(forged)
    assert (await recorder.account())["g1"] == account(
        "g1", 500, recorded=101, missing=399, last_report=None, unsupported=LARGEST_SEQ
    )

    for gateway, above in (("g1", 100), ("nobody", 0)):
        forget = partial(forget_claims, gateway_id=gateway, above=above, now=datetime.now(UTC))
        await recorder.database.writer.transaction(forget)
    assert await recorder.account() == {"g1": account("g1", 100, recorded=100, last_report=None)}

    await recorder.store.record([delivery(101), delivery(103)])
    assert (await recorder.account())["g1"] == account("g1", 103, recorded=102, missing=1, last_report=None)
    assert len(await recorder.rows()) == 104


async def test_gateways_beyond_the_list_are_counted_together(recorder: Recording) -> None:
    await recorder.store.record([delivery(seq) for seq in (1, 2)])
    strangers = [delivery(1, b"%d" % n, gateway=f"s{n:04}") for n in range(MOST_LISTED + 50)]
    await recorder.store.record(strangers)

    found = await reconcile(recorder.database.readers, no_outboxes, NOW)

    assert len(found.accounts) == MOST_LISTED
    assert account("g1", 2, recorded=2, last_report=None) in found.accounts
    assert found.others == Others(51, 51)


async def test_feedback_may_arrive_before_its_prediction_and_twice(
    recorder: Recording,
) -> None:
    body = event()
    of = orjson.loads(body)["id"]
    batch = [
        delivery(1, feedback_event(of, "hipertiroidismo", time=START + timedelta(hours=1), reason='«ñ» "\n😀')),
        delivery(2, body),
        delivery(3, feedback_event(of)),
    ]
    for part in (batch[:1], batch[1:], batch):
        assert await recorder.store.record(part) == {one.seq for one in part}

    corrected, accepted = await recorder.rows(RESULTADOS)
    sent = orjson.loads(batch[0].body)
    assert (str(corrected.id), str(corrected.prediccion_id), corrected.hash) == (sent["id"], of, sent["datahash"])
    assert (corrected.aceptada, corrected.diagnostico, corrected.motivo) == (False, "hipertiroidismo", '«ñ» "\n😀')
    assert (corrected.timestamp, corrected.gateway_id, corrected.seq) == (START + timedelta(hours=1), "g1", 1)
    assert (accepted.aceptada, accepted.diagnostico, accepted.motivo) == (True, None, None)
    assert recorder.registry.get_sample_value("predecir_recorder_outcomes_recorded_total") == 2
    assert recorder.registry.get_sample_value("predecir_recorder_predictions_recorded_total") == 1
    assert (await recorder.account(OutboxState("g1", 3, 4)))["g1"] == account("g1", 3, recorded=3)


async def test_feedback_of_two_gateways_is_one_row_unless_it_differs(
    recorder: Recording,
) -> None:
    of, same = str(uuid.uuid4()), "0190a1b2-0000-7000-8000-000000000004"
    first = feedback_event(of, event_id=same)
    await recorder.store.record([delivery(1, first)])
    await recorder.store.record(
        [
            delivery(1, first, gateway="g2"),
            delivery(2, feedback_event(of, "hipertiroidismo", event_id=same), gateway="g2"),
        ]
    )

    assert [row.aceptada for row in await recorder.rows(RESULTADOS)] == [True]
    (quarantined,) = await recorder.rows(CUARENTENA)
    assert (quarantined.seq, str(quarantined.prediccion_id)) == (2, same)
    accounts = await recorder.account(OutboxState("g1", 1, 2), OutboxState("g2", 2, 3))
    assert accounts == {"g1": account("g1", 1, recorded=1), "g2": account("g2", 2, duplicates=1, quarantined=1)}


async def test_feedback_counts_in_the_account_once_per_seq(recorder: Recording) -> None:
    of, same, other = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
    batch = [
        delivery(1),
        delivery(2, feedback_event(of)),
        delivery(7, feedback_event(of, event_id=other), gateway="g2"),
        delivery(2, feedback_event(of, event_id=other)),  # a duplicate under a seq that is recorded
        delivery(3, feedback_event(of, event_id=same)),
        delivery(3, feedback_event(of, "hipertiroidismo", event_id=same)),  # quarantined under a seq that is recorded
    ]
    for one in batch:
        await recorder.store.record([one])

    accounts = await recorder.account()
    assert accounts["g1"] == account("g1", 3, recorded=3, last_report=None)
    assert (accounts["g2"].answered, accounts["g2"].recorded, accounts["g2"].quarantined) == (7, 1, 0)


async def test_feedback_on_an_id_that_is_no_uuid_is_quarantined(recorder: Recording) -> None:
    await recorder.store.record([delivery(1, feedback_event("UNA"))])

    (quarantined,) = await recorder.rows(CUARENTENA)
    assert quarantined.motivo == "its prediction is not a canonical UUID"


async def test_the_id_of_the_key_is_recorded_and_older_events_have_none(recorder: Recording) -> None:
    asked = event(key_id="3f9c0a61b2d4")
    of = orjson.loads(asked)["id"]
    said = feedback_event(of, key_id="b2d43f9c0a61")
    await recorder.store.record([delivery(1, asked), delivery(2), delivery(3, said), delivery(4, feedback_event(of))])

    assert [row.clave_id for row in await recorder.rows()] == ["3f9c0a61b2d4", None]
    assert [row.clave_id for row in await recorder.rows(RESULTADOS)] == ["b2d43f9c0a61", None]
    assert await recorder.rows(CUARENTENA) == []


async def test_reference_and_plausible_classes_are_recorded(recorder: Recording) -> None:
    plausible = ["negativo", "hipertiroidismo"]
    await recorder.store.record([delivery(1, event(reference="5f" * 32, plausible=plausible)), delivery(2)])

    assert [(row.referencia, row.plausibles) for row in await recorder.rows()] == [("5f" * 32, plausible), (None, None)]


async def test_the_store_recovers_when_the_database_can_be_written_again(recorder: Recording, target: Target) -> None:
    await recorder.store.record([delivery(1)])
    with target.unwritable():
        with pytest.raises(TransportDownError, match=r"^the database cannot be written: .+") as caught:
            await recorder.store.record([delivery(2), delivery(3, b"unreadable")])
        assert "\n" not in str(caught.value)
        assert recorder.store.down() == str(caught.value)
        assert [row.seq for row in await recorder.rows()] == [1]
        assert not await recorder.rows(CUARENTENA)

    await until(lambda: recorder.store.down() is None)
    assert await recorder.store.record([delivery(2), delivery(3, b"unreadable")]) == {2, 3}
    assert [row.seq for row in await recorder.rows()] == [1, 2]


async def test_a_row_that_the_database_refuses_is_quarantined_alone(
    recorder: Recording, target: RefusingTarget
) -> None:
    """Whatever the class of its error: here that of a trigger, which no value causes by itself."""
    refused = event(note="refused")
    with target.refusing("refused"):
        batch = [delivery(1), delivery(2, refused), delivery(3, feedback_event(str(uuid.uuid4()))), delivery(4)]
        assert await recorder.store.record(batch) == {1, 2, 3, 4}

    assert recorder.store.down() is None
    assert [row.seq for row in await recorder.rows()] == [1, 4]
    assert [row.seq for row in await recorder.rows(RESULTADOS)] == [3]
    (quarantined,) = await recorder.rows(CUARENTENA)
    assert (quarantined.seq, bytes(quarantined.cuerpo)) == (2, refused)
    assert quarantined.motivo == "the database refuses a value in it"


async def test_a_database_that_refuses_every_row_quarantines_none(recorder: Recording, target: RefusingTarget) -> None:
    with target.refusing(""), pytest.raises(TransportDownError, match="the database cannot be written"):
        await recorder.store.record([delivery(1), delivery(2)])

    assert (await recorder.rows(), await recorder.rows(CUARENTENA)) == ([], [])
    assert await recorder.store.record([delivery(1), delivery(2)]) == {1, 2}


async def test_a_cancelled_caller_leaves_no_open_transaction(recorder: Recording, target: Target) -> None:
    """Each caller is cancelled some turns of the loop later than the one before, until one finishes; ten times."""
    turns = cancelled = finished = 0
    while finished < 10:
        last = 2 * (cancelled + finished) + 2
        caller = asyncio.create_task(recorder.store.record([delivery(last - 1), delivery(last)]))
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        if isinstance((await asyncio.gather(caller, return_exceptions=True))[0], asyncio.CancelledError):
            cancelled, turns = cancelled + 1, turns + 6
        else:
            finished, turns = finished + 1, 0
    assert cancelled > finished, "none was cancelled after its start"

    assert await recorder.store.record([delivery(last + 1)]) == {last + 1}
    await until(lambda: target.open_transactions() == 0)
    seqs = {row.seq for row in await recorder.rows()}
    assert all((seq in seqs) == (seq + 1 in seqs) for seq in range(1, last, 2)), "a batch was cut in two"


class Announcing:
    """A writer that signals that a transaction is about to begin, and counts those that failed."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.begun = asyncio.Event()
        self.failed = 0

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        self.begun.set()
        try:
            return await self._writer.transaction(work)
        except BaseException:
            self.failed += 1
            raise

    async def at_opening(self, work: Callable[[Connection], T]) -> T:
        return await self._writer.at_opening(work)

    async def maintain(self) -> None:
        await self._writer.maintain()


async def test_the_store_stays_down_while_its_probes_fail(target: Target) -> None:
    async with open_database(read_url(target.url), busy_seconds=0.05) as database:
        writer = Announcing(database.writer)
        store = Store(writer, Metrics(CollectorRegistry()))
        async with store.watched(every_seconds=0.02):
            with target.unwritable():
                with pytest.raises(TransportDownError):
                    await store.record([delivery(1)])
                await until(lambda: writer.failed >= 3)
                assert (store.down() or "").startswith("the database cannot be written: ")
            await until(lambda: store.down() is None)


async def test_closing_waits_for_the_transaction_of_a_cancelled_caller(target: Target) -> None:
    async with open_database(read_url(target.url)) as database:
        writer = Announcing(database.writer)
        store = Store(writer, Metrics(CollectorRegistry()))
        async with store.watched():
            caller = asyncio.create_task(store.record([delivery(seq) for seq in range(1, 31)]))
            await writer.begun.wait()
            caller.cancel()
    async with recording(target) as opened:
        assert len(await opened.rows()) == 30


async def test_pages_are_newest_first_and_complete_even_with_equal_times(recorder: Recording) -> None:
    times = [START + timedelta(seconds=n // 10) for n in range(60)]
    batch = [delivery(n + 1, event(time=time)) for n, time in enumerate(times)]
    for n in range(10):  # rows of one time in ten transactions, so that they are not stored in the order of their ids
        await recorder.store.record(batch[n::10])

    read: list[Any] = []
    cursor = None
    while True:
        rows, cursor = await read_page(recorder.database.readers, Filtro(limite=13, cursor=cursor))
        read += rows
        if cursor is None:
            break
        await recorder.store.record([delivery(1000 + len(read), event(time=START + timedelta(days=1)))])

    assert [len(read), len({row["id"] for row in read})] == [60, 60]
    assert [row["timestamp"] for row in read] == sorted(times, reverse=True)


async def test_filters_narrow_by_time_class_and_model_version(recorder: Recording) -> None:
    day = timedelta(days=1)
    await recorder.store.record(
        [
            delivery(1, event(time=START)),
            delivery(2, event(time=START + day, output="hipertiroidismo")),
            delivery(3, event(time=START + 2 * day, version="4")),
        ]
    )

    async def seqs(**filters: Any) -> list[int]:  # noqa: ANN401 - any of Filtro's
        rows, _ = await read_page(recorder.database.readers, Filtro(limite=10, **filters))
        return [row["seq"] for row in rows]

    assert await seqs() == [3, 2, 1]
    assert await seqs(desde=START + day) == [3, 2]
    assert await seqs(hasta=START + day) == [1]
    assert await seqs(desde=START + day, hasta=START + 2 * day) == [2]
    assert await seqs(output="hipertiroidismo") == [2]
    assert await seqs(modelo_version="4") == [3]
    assert await seqs(output="hipertiroidismo", modelo_version="4") == []


async def test_a_page_and_one_prediction_show_the_feedback_recorded_last(recorder: Recording) -> None:
    reference = "5f" * 32
    bodies = [event(time=START + timedelta(seconds=n), reference=reference if n else None) for n in range(3)]
    of = [orjson.loads(body)["id"] for body in bodies]
    hour = timedelta(hours=1)
    feedback = [
        feedback_event(of[0], time=START + 2 * hour),
        feedback_event(of[0], "hipertiroidismo", time=START + hour, reason="otra prueba"),
        feedback_event(of[2]),
    ]
    await recorder.store.record([delivery(seq, body) for seq, body in enumerate([*bodies, *feedback], 1)])

    readers = recorder.database.readers
    rows, _ = await read_page(readers, Filtro(limite=10))
    assert [row["resultado"] and row["resultado"]["diagnostico"] for row in rows] == [None, None, "hipertiroidismo"]
    assert [row["resultado"] is None for row in rows] == [False, True, False]
    [newest], cursor = await read_page(readers, Filtro(limite=1, referencia=reference))
    assert (newest["id"], newest["resultado"]["aceptada"]) == (of[2], True)
    [other], end = await read_page(readers, Filtro(limite=1, referencia=reference, cursor=cursor))
    assert (other["id"], end) == (of[1], None)

    one = await read_one(readers, of[0])
    assert one is not None
    assert [row["aceptada"] for row in one["resultados"]] == [False, True]
    assert one["resultado"] == one["resultados"][0]
    assert one["resultado"]["motivo"] == "otra prueba"


@pytest.mark.parametrize("apart", [True, False], ids=["each in its own message", "in one message"])
async def test_feedback_counts_in_the_order_of_recording_in_all_queries(recorder: Recording, *, apart: bool) -> None:
    """Whatever its own time, which its sender chooses: here the first is dated after the others."""
    body = event()
    of = orjson.loads(body)["id"]
    now = datetime.now(UTC)
    forged = feedback_event(of, "hipertiroidismo", time=now + timedelta(minutes=9), event_id=str(uuid.UUID(int=9)))
    doctors = [feedback_event(of, time=now - timedelta(days=n), event_id=str(uuid.UUID(int=8 - n))) for n in (0, 1)]
    batch = [delivery(seq, content) for seq, content in enumerate([body, forged, *doctors], 1)]
    for part in [[one] for one in batch] if apart else [batch]:
        await recorder.store.record(part)

    [listed], _ = await read_page(recorder.database.readers, Filtro(limite=1))
    one = await read_one(recorder.database.readers, of)
    assert one is not None
    assert [uuid.UUID(str(row["id"])).int for row in one["resultados"]] == [7, 8, 9]
    assert listed["resultado"] == one["resultado"] == one["resultados"][0]


async def test_every_filter_that_is_accepted_can_be_compared(recorder: Recording) -> None:
    await recorder.store.record([delivery(1)])
    first, last = "0001-01-01T00:00:00-14:00", "9999-12-31T23:59:59.999999+14:00"
    for filters, count in [
        ({"desde": first, "hasta": last}, 1),
        ({"desde": last}, 0),
        ({"hasta": "0001-01-01"}, 0),
        ({"modelo_version": "x" * 30_000}, 0),
        ({"modelo_version": "\ufffe😀'"}, 0),
    ]:
        rows, _ = await read_page(recorder.database.readers, Filtro.model_validate(filters))
        assert len(rows) == count, filters


SPOILT = {
    "sqlite": ("timestamp = 'zzz'", "timestamp = ''", "inputs = '{'", "probabilidad = 'nan'", "probabilidades = '[1]'"),
    "postgresql": (
        "timestamp = 'infinity'",
        "timestamp = '-infinity'",
        "inputs = '[1]'",
        "probabilidad = 'NaN'",
        "probabilidades = '{\"a\": null}'",
    ),
}


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_rows_that_cannot_be_read_cost_no_page(recorder: Recording, limit: int) -> None:
    """As an earlier recorder recorded them, or another program changed them."""
    dialect = recorder.database.readers.dialect.name
    await recorder.store.record([delivery(seq, event(time=START + timedelta(days=seq))) for seq in range(1, 12)])

    def spoil(connection: Connection) -> None:
        for seq, change in enumerate(SPOILT[dialect], 1):
            connection.exec_driver_sql(f"UPDATE predicciones SET {change} WHERE seq = {2 * seq}")  # noqa: S608 - ours

    await recorder.database.writer.transaction(spoil)
    spoilt = {str(row.id) for row in await seqs_of(recorder) if row.seq in range(2, 11, 2)}

    shown: list[int] = []
    named: list[str] = []
    cursor = None
    for _ in range(12):
        rows, cursor = await read_page(recorder.database.readers, Filtro(limite=limit, cursor=cursor))
        readable, unreadable = split_unreadable(rows)
        shown += [each.seq for each in readable]  # type: ignore[attr-defined]  # a column
        named += unreadable
        if cursor is None:
            break
    assert (shown, len(named), set(named)) == ([11, 9, 7, 5, 3, 1], 5, spoilt)


async def seqs_of(recorder: Recording) -> Sequence[Any]:
    async with recorder.database.readers.connect() as connection:
        return (await connection.execute(select(PREDICCIONES.c.id, PREDICCIONES.c.seq))).all()


async def test_a_cursor_of_no_page_is_rejected(recorder: Recording) -> None:
    for cursor in ("zzz", "ñ", "AAAA", "MjAyNi0xMS0yMyBubw", "PQ", "PXp6eg"):
        with pytest.raises(BadCursorError):
            await read_page(recorder.database.readers, Filtro(limite=1, cursor=cursor))


async def test_one_prediction_is_found_by_its_id(recorder: Recording) -> None:
    body = event()
    await recorder.store.record([delivery(1, body)])

    prediction = await read_one(recorder.database.readers, orjson.loads(body)["id"])

    assert prediction is not None
    assert prediction["seq"] == 1
    assert await read_one(recorder.database.readers, str(uuid.uuid4())) is None


async def test_readers_cannot_write(recorder: Recording) -> None:
    async with recorder.database.readers.connect() as connection:
        with pytest.raises(Exception, match=r"read-?only"):
            await connection.execute(PREDICCIONES.delete())


async def test_migrations_create_exactly_the_schema_and_can_be_reverted(recorder: Recording) -> None:
    def difference(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    def undo(connection: Connection) -> list[str]:
        command.downgrade(alembic_config(connection), "base")
        return inspect(connection).get_table_names()

    transaction = recorder.database.writer.transaction
    assert await transaction(difference) == []
    assert await transaction(undo) == ["alembic_version"]
    await transaction(migrate)
    assert await transaction(difference) == []
