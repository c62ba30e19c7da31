"""Compatibility of old and new events with old and new readers: services need not be upgraded at the same moment."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from services.recorder.db.tables import CUARENTENA, PREDICCIONES, RESULTADOS
from shared.contracts.events import EventError, read_event
from shared.contracts.outbox_status import GATEWAY_STATE, read_status
from shared.contracts.transport import Delivery
from tests.support.recorder_suite import recording
from tests.support.targets import SqliteTarget

GOLDEN = {file.name: file.read_bytes() for file in (Path(__file__).parent / "golden").glob("*.json")}
STATES = [name for name in GOLDEN if name.startswith(GATEWAY_STATE)]
FACTS = [name for name in GOLDEN if name not in STATES]


class FirstAnswer(BaseModel):
    """The fields of an answer that the first recorder read."""

    inputs: dict[str, Any]
    output: str
    probabilidad: float
    probabilidades: dict[str, float]
    modelo: dict[str, str]
    paciente: str


def changed(body: bytes, **attributes: object) -> bytes:
    """Add an unknown field to the data, and change `attributes`, as a writer to come would."""
    event = orjson.loads(body)
    event["data"]["novedad"] = {"de": "mañana"}
    if "datahash" in event:
        event["datahash"] = hashlib.sha256(orjson.dumps(event["data"])).hexdigest()
    return orjson.dumps(event | {"traceparent": "00-1"} | attributes)


def as_it_is(body: bytes) -> bytes:
    return body


def with_an_addition(body: bytes) -> bytes:
    return changed(body)


def of_the_next_version(body: bytes) -> bytes:
    return changed(body, version=2)


@pytest.mark.parametrize("written", [as_it_is, with_an_addition])
@pytest.mark.parametrize("name", FACTS)
async def test_present_events_of_every_writer_are_recorded(
    tmp_path: Path, name: str, written: Callable[[bytes], bytes]
) -> None:
    body = written(GOLDEN[name])
    async with recording(SqliteTarget(tmp_path / "p.db")) as recorder:
        assert await recorder.store.record([Delivery("g1", 1, body)]) == {1}
        rows = [*await recorder.rows(PREDICCIONES), *await recorder.rows(RESULTADOS)]
        assert [row.id for row in rows] == [orjson.loads(body)["id"]]
        assert await recorder.rows(CUARENTENA) == []


@pytest.mark.parametrize("name", FACTS)
async def test_an_event_of_the_next_version_is_quarantined_whole(tmp_path: Path, name: str) -> None:
    body = of_the_next_version(GOLDEN[name])
    async with recording(SqliteTarget(tmp_path / "p.db")) as recorder:
        assert await recorder.store.record([Delivery("g1", 1, body), Delivery("g1", 2, GOLDEN[name])]) == {1, 2}
        (waiting,) = await recorder.rows(CUARENTENA)
        assert (waiting.seq, bytes(waiting.cuerpo), "unknown version" in waiting.motivo) == (1, body, True)
        assert len([*await recorder.rows(PREDICCIONES), *await recorder.rows(RESULTADOS)]) == 1


@pytest.mark.parametrize("written", [as_it_is, with_an_addition])
@pytest.mark.parametrize("name", [name for name in FACTS if name.startswith("prediccion")])
def test_the_first_recorder_reads_what_is_written_today_and_tomorrow(
    name: str, written: Callable[[bytes], bytes]
) -> None:
    event = orjson.loads(written(GOLDEN[name]))
    assert event["version"] == 1
    assert FirstAnswer.model_validate(event["data"]).output == event["data"]["output"]
    assert hashlib.sha256(orjson.dumps(event["data"])).hexdigest() == event["datahash"]


@pytest.mark.parametrize("name", STATES)
def test_a_status_of_the_next_version_is_rejected_and_additions_are_read(name: str) -> None:
    assert read_status(with_an_addition(GOLDEN[name])) == read_status(GOLDEN[name])
    with pytest.raises(EventError):
        read_status(of_the_next_version(GOLDEN[name]))


def test_no_type_of_event_is_forgotten_here() -> None:
    published = {file.name.split(".v")[0] for file in (Path(__file__).parents[2] / "docs" / "events").iterdir()}
    assert {name.split(".v")[0] for name in GOLDEN} == published
    assert {read_event(GOLDEN[name]).type for name in FACTS} | {GATEWAY_STATE} == published
