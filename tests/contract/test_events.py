from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.events import EventError, json_schema, read_prediction, write_prediction
from shared.model import ModelInfo, Score

GOLDEN = (Path(__file__).parent / "golden" / "prediccion.realizada.v1.json").read_bytes()

MODEL = ModelInfo(
    name="tiroides",
    version="7",
    digest="d" * 64,
    patient_digest="p" * 64,
    columns=("edad",),
    classes=("sin_alteracion", "hipertiroidismo"),
    prevalence={},
    low_prevalence=frozenset(),
    training_ranges={},
)


def written(**changes: Any) -> bytes:  # noqa: ANN401
    event: dict[str, Any] = {
        "event_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "source": "/gateway/1c1b5f6e-0f0e-4a52-8d4c-3f3a4f7d8a11",
        "time": "2026-11-23T02:47:26.123456+00:00",
        "inputs": {"edad": 47, "sexo": "F", "tsh": 0.05, "t3": None, "bocio": False},
        "output": "hipertiroidismo",
        "score": Score([0.06, 0.94], MODEL),
    }
    return write_prediction(**event | changes)


def test_version_1_is_written_as_it_always_was() -> None:
    assert written() == GOLDEN


def test_the_published_schema_is_that_of_the_code_and_names_what_is_written() -> None:
    path = Path(__file__).parents[2] / "docs" / "events" / "prediccion.realizada.v1.schema.json"
    assert path.read_bytes() == json_schema()  # otherwise: python -m shared.events > that file, if v1 may change so
    schema = json.loads(json_schema())
    assert set(schema["required"]) == set(json.loads(GOLDEN))
    assert set(schema["$defs"]["Answer"]["required"]) == set(json.loads(GOLDEN)["data"])


def test_version_1_is_read() -> None:
    event = read_prediction(GOLDEN)
    assert event.id == "01890a5d-ac96-774b-bcce-b302099a8057"
    assert event.time.isoformat() == "2026-11-23T02:47:26.123456+00:00"
    assert event.data.inputs == {"edad": 47, "sexo": "F", "tsh": 0.05, "t3": None, "bocio": False}
    assert (event.data.output, event.data.probabilidad) == ("hipertiroidismo", 0.94)
    assert event.data.modelo.version == "7"


def test_the_hash_covers_question_and_answer_but_neither_id_nor_time() -> None:
    def datahash(**changes: Any) -> str:  # noqa: ANN401
        return read_prediction(written(**changes)).datahash

    assert datahash(event_id="other", time="2027-01-01T00:00:00+00:00") == datahash()
    assert datahash(inputs={"edad": 48}) != datahash()
    assert datahash(score=Score([0.07, 0.93], MODEL)) != datahash()


def test_an_attribute_nobody_knows_yet_is_ignored() -> None:
    assert read_prediction(json.dumps(json.loads(GOLDEN) | {"traceparent": "00-1"}).encode()) == read_prediction(GOLDEN)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x00\xff", "not JSON"),
        (b"[]", "not an event"),
        (b'{"type":"otra.cosa"}', "not an event"),
        (GOLDEN.replace(b'"version":1', b'"version":99'), "unknown version"),
        (GOLDEN.replace(b'"probabilidad":0.94', b'"probabilidad":"alta"'), "data.probabilidad"),
        (GOLDEN.replace(b'"edad":47', b'"edad":74'), "datahash"),
    ],
)
def test_what_cannot_be_read_says_why_without_its_content(body: bytes, reason: str) -> None:
    with pytest.raises(EventError, match=reason) as caught:
        read_prediction(body)
    assert "74" not in str(caught.value)
