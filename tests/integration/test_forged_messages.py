"""Messages of a publisher that has a gateway's rights, through a real broker: what each of them must come to.

Nothing of them is recorded, the account of the gateway in whose name they come is unchanged, and the next genuine
answer is recorded within seconds.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from pamqp.common import FieldValue

from services.recorder.accounting.outbox_reports import MOST_REPORTED
from services.recorder.db.tables import CUARENTENA, GATEWAYS, RESULTADOS
from services.recorder.ingest.properties import LARGEST_PROPERTIES
from services.recorder.transfer.copy import read_all
from shared.contracts.event_batches import CONTENT_TYPE, LARGEST_BODY, LARGEST_SEQ, MOST_EVENTS
from shared.contracts.events import LARGEST_EVENT, LONGEST_NAME, LONGEST_REASON
from shared.contracts.outbox_status import CONTENT_TYPE as STATE
from shared.contracts.outbox_status import OutboxStatus, write_status
from shared.contracts.transport import OutboxState
from tests.support.broker import Broker
from tests.support.recorder_suite import Recording, delivery, event, feedback_event, recording
from tests.support.targets import SqliteTarget, Target
from tests.support.waiting import until

PREDICTION = "01890a5d-ac96-774b-bcce-b302099a8057"
DEEP = json.loads("[" * 200 + "]" * 200)
SECONDS = 20
"""In which the next genuine answer is recorded, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Hostile:
    """One message; `quarantined` is the number of rows that it becomes. `seq` replaces that of the gateway's next."""

    name: str
    body: bytes
    quarantined: int = 1
    events: int = 1
    seq: int | None = None
    state: bool = False


def changed(part: dict[str, Any], body: bytes | None = None, **attributes: object) -> bytes:
    """Return a message with one event: a good one with other data, the hash that holds then, and other attributes."""
    good = orjson.loads(event() if body is None else body)
    data = good["data"] | part
    digest = hashlib.sha256(orjson.dumps(data)).hexdigest()
    return b"[" + orjson.dumps(good | {"data": data, "datahash": digest} | attributes) + b"]"


def status(answered: int, oldest: int, time: str = "2026-03-01T12:00:00+00:00") -> bytes:
    body = orjson.loads(write_status(OutboxStatus(OutboxState("g1", 0, 0), datetime.now(UTC))))
    data = {"gateway_id": "g1", "respondidas": answered, "pendiente_desde": oldest}
    return orjson.dumps(body | {"data": data, "time": time})


def empty(events: int) -> bytes:
    return b"[" + b",\n".join([b"{}"] * events) + b"]"


FEEDBACK = feedback_event(PREDICTION, "hipertiroidismo", reason="otra prueba")
CHANGED_ANSWERS: dict[str, dict[str, Any]] = {
    "inputs that contain a list": {"inputs": {"edad": [41]}},
    "inputs nested beyond our bound": {"inputs": {"edad": DEEP}},
    "an answer longer than our bound": {"output": "a" * (LONGEST_NAME + 1)},
    "an answer of many characters": {"output": "".join(map(chr, range(1000, 17_000)))},
    "a version longer than our bound": {"modelo": {"nombre": "t", "version": "1" * 16_000, "digest": "d"}},
    "a reference longer than our bound": {"referencia": "5f" * 8000},
    "a reference that is no digest": {"referencia": "PACIENTE-1"},
    "a probability that is a text": {"probabilidad": "nan"},
    "an infinite probability as a text": {"probabilidad": "inf"},
    "a probability above 1": {"probabilidad": 5.0},
    "a negative probability": {"probabilidades": {"negativo": -1.0, "hipertiroidismo": 0.1}},
    "an answer that is no class": {"output": "bocio"},
    "plausible answers that are no classes": {"plausibles": ["bocio"]},
}
TIMES = {
    "the last moment of the calendar": "9999-12-31T23:59:59.999999+00:00",
    "next year": (datetime.now(UTC) + timedelta(days=365)).isoformat(),
    "the first moment of the calendar": "0001-01-01T00:00:00+00:00",
    "beyond the calendar": "9999-12-31T23:59:59+00:00"[:-6] + "-12:00",
}
HOSTILE = (
    *(Hostile(name, changed(part)) for name, part in CHANGED_ANSWERS.items()),
    *(Hostile(f"an answer of {name}", changed({}, time=time)) for name, time in TIMES.items()),
    *(Hostile(f"feedback of {name}", changed({}, FEEDBACK, time=time)) for name, time in TIMES.items()),
    Hostile("a reason longer than our bound", changed({"motivo": "a" * (LONGEST_REASON + 1)}, FEEDBACK)),
    Hostile("feedback that is accepted as a text", changed({"aceptada": "false"}, FEEDBACK)),
    Hostile("an event longer than our bound", changed({}, note="a" * LARGEST_EVENT)),
    Hostile("events up to our bound, all unreadable", empty(MOST_EVENTS), MOST_EVENTS, MOST_EVENTS),
    Hostile("one event more than our bound", empty(MOST_EVENTS + 1), 1, MOST_EVENTS + 1),
    Hostile("very many empty events", empty(300_000), 1, 300_000),
    Hostile("a message longer than our bound", b"[" + b" " * LARGEST_BODY + b"]"),
    Hostile("a number beyond our bound", changed({}), seq=9 * 10**18),
    Hostile("an unreadable event with an absurd number", b"[{}]", seq=LARGEST_SEQ - 2),
    Hostile("a status with counts beyond our bound", status(2**63 - 1, 2**63 - 1), 0, state=True),
    Hostile("a status with absurd counts", status(LARGEST_SEQ, LARGEST_SEQ + 1), 0, state=True),
    *(Hostile(f"a status of {name}", status(5, 6, time), 0, state=True) for name, time in TIMES.items()),
    Hostile("a status that is no JSON", b"[" * 200, 0, state=True),
)


async def put(broker: Broker, hostile: Hostile, seq: int) -> None:
    if hostile.state:
        await broker.put(hostile.body, STATE, {}, broker.topology.states)
        return
    headers: dict[str, FieldValue] = {"gateway-id": "g1", "first-seq": hostile.seq or seq, "events": hostile.events}
    await broker.put(hostile.body, CONTENT_TYPE, headers)


def counted(recorder: Recording, name: str) -> float:
    samples = (sample for metric in recorder.registry.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name == f"predecir_recorder_{name}_total")


def reached(recorder: Recording, name: str, number: int) -> Callable[[], bool]:
    return lambda: counted(recorder, name) >= number


async def test_no_message_of_a_hostile_publisher_ends_or_blocks_the_recorder(target: Target, broker: Broker) -> None:
    await broker.declare()
    quarantined = 0
    async with recording(target) as recorder, broker.transport() as transport, broker.consumer(recorder.store):
        for seq, hostile in enumerate(HOSTILE, 1):
            await put(broker, hostile, seq)
            assert await transport.publish([delivery(seq)]) == {seq}
            quarantined += hostile.quarantined
            await until(reached(recorder, "predictions_recorded", seq), seconds=SECONDS)
            await until(reached(recorder, "quarantined", quarantined), seconds=SECONDS)
            assert counted(recorder, "quarantined") == quarantined, hostile.name
            await transport.report(OutboxState("g1", seq, seq + 1))

        async def caught_up() -> bool:
            async with recorder.database.readers.connect() as connection:
                rows = await read_all(connection, GATEWAYS)
            return [row["respondidas"] for row in rows if row["gateway_id"] == "g1"] == [len(HOSTILE)]

        await until(caught_up, seconds=SECONDS)
        assert recorder.store.down() is None
        assert [row.seq for row in await recorder.rows()] == list(range(1, len(HOSTILE) + 1))
        assert await recorder.rows(RESULTADOS) == []
        assert len(await recorder.rows(CUARENTENA)) == quarantined
        account = (await recorder.account())["g1"]
        beside = MOST_EVENTS - (len(HOSTILE) - [hostile.quarantined for hostile in HOSTILE].index(MOST_EVENTS))
        assert (account.recorded, account.missing, account.quarantined) == (len(HOSTILE), 0, beside)
        assert account.unsupported == LARGEST_SEQ - 2


async def test_a_forged_id_and_seq_keep_the_bytes_of_the_genuine_answer(target: Target, broker: Broker) -> None:
    """The answer itself cannot be recorded then, but it is in quarantine, byte by byte, and counted there."""
    genuine = event(event_id=PREDICTION, tsh=1)
    await broker.declare()
    async with recording(target) as recorder, broker.transport() as transport, broker.consumer(recorder.store):
        await transport.publish([delivery(1, event(event_id=PREDICTION, tsh=2), gateway="forged")])
        await broker.put(b"[\x00]", CONTENT_TYPE, {"gateway-id": "g1", "first-seq": 1, "events": 1})
        await transport.publish([delivery(1, genuine)])
        await until(reached(recorder, "quarantined", 2), seconds=SECONDS)

        kept = [(row.seq, bytes(row.cuerpo)) for row in await recorder.rows(CUARENTENA)]
        assert sorted(kept) == sorted([(1, b"\x00"), (1, genuine)])
        account = (await recorder.account(OutboxState("g1", 1, 2)))["g1"]
        assert (account.answered, account.quarantined, account.missing) == (1, 1, 0)


async def test_a_message_with_properties_beyond_our_bound_blocks_nothing(broker: Broker, tmp_path: Path) -> None:
    """The client closes the connection at properties that it cannot decode; how they are tolerated is a unit test."""
    long: dict[str, FieldValue] = {"gateway-id": "g1", "first-seq": 1, "events": 1, "note": "a" * LARGEST_PROPERTIES}
    body = b"[" + event() + b"]"
    await broker.declare()
    target = SqliteTarget(tmp_path / "predicciones.db")
    async with recording(target) as recorder, broker.transport() as transport, broker.consumer(recorder.store):
        await broker.put(body, CONTENT_TYPE, long)
        await broker.put(body, STATE, long, broker.topology.states)
        await transport.publish([delivery(1)])
        await until(reached(recorder, "predictions_recorded", 1), seconds=SECONDS)
        await until(reached(recorder, "quarantined", 1), seconds=SECONDS)
        [row] = await recorder.rows(CUARENTENA)
        assert (row.gateway_id, bytes(row.cuerpo)) == ("", body)
        assert len(await recorder.rows()) == 1


async def test_statuses_of_made_up_gateways_do_not_grow_the_database(broker: Broker, tmp_path: Path) -> None:
    await broker.declare()
    target = SqliteTarget(tmp_path / "predicciones.db")
    async with recording(target) as recorder, broker.transport() as transport, broker.consumer(recorder.store):
        for start in range(0, MOST_REPORTED + 200, 100):  # slower than the recorder, since the queue has a bound
            for number in range(start, start + 100):
                await transport.report(OutboxState(f"made-up-{number}", 1, 2))
            await transport.publish([delivery(start // 100 + 1)])
            await until(reached(recorder, "predictions_recorded", start // 100 + 1), seconds=SECONDS)
        await transport.report(OutboxState("g1", start // 100 + 1, start // 100 + 2))

        async def stored() -> set[str]:
            async with recorder.database.readers.connect() as connection:
                return {row["gateway_id"] for row in await read_all(connection, GATEWAYS)}

        async def genuine_is_stored() -> bool:
            return "g1" in await stored()

        await until(genuine_is_stored, seconds=SECONDS)
        assert len(await stored()) == MOST_REPORTED
