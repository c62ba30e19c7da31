"""Events: golden files of version 1, published schemas, rejected bodies."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.events import (
    FEEDBACK_REGISTERED,
    PREDICTION_MADE,
    EventError,
    Feedback,
    FeedbackRegistered,
    PredictionMade,
    json_schema,
    read_event,
    write_feedback,
    write_prediction,
)
from shared.contracts.scoring import ModelFacts, Score

FOLDER = Path(__file__).parent / "golden"
GOLDEN = (FOLDER / "prediccion.realizada.v1.json").read_bytes()
REFERRED = (FOLDER / "prediccion.realizada.v1.referencia.json").read_bytes()
PLAUSIBLE = (FOLDER / "prediccion.realizada.v1.plausibles.json").read_bytes()
ACCEPTED = (FOLDER / "resultado.registrado.v1.json").read_bytes()
CORRECTED = (FOLDER / "resultado.registrado.v1.corregido.json").read_bytes()
OUTCOME = Feedback(prediccion="01890a5d-ac96-774b-bcce-b302099a8057", aceptada=True, diagnostico=None, motivo=None)
CORRECTION = OUTCOME.model_copy(
    update={"aceptada": False, "diagnostico": "hipotiroidismo", "motivo": 'TSH repetida: 14 mU/L\n"clínica" clara'}
)

MODEL = ModelFacts(
    name="tiroides",
    version="7",
    digest="d" * 64,
    patient_digest="p" * 64,
    columns=("edad",),
    classes=("sin_alteracion", "hipertiroidismo"),
    prevalence={},
    low_prevalence=(),
    training_ranges={},
    never_missing=(),
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


def registered(outcome: Feedback) -> bytes:
    return write_feedback(
        event_id="01890a5d-ac96-774b-bcce-b302099a8058",
        source="/gateway/1c1b5f6e-0f0e-4a52-8d4c-3f3a4f7d8a11",
        time="2026-11-23T05:47:26.123456+00:00",
        feedback=outcome,
    )


def test_version_1_is_written_as_it_always_was() -> None:
    assert written() == GOLDEN
    assert written(reference="5f" * 32) == REFERRED
    assert written(plausible=["hipertiroidismo", "sin_alteracion"]) == PLAUSIBLE
    assert registered(OUTCOME) == ACCEPTED
    assert registered(CORRECTION) == CORRECTED


@pytest.mark.parametrize(("name", "golden"), [(PREDICTION_MADE, GOLDEN), (FEEDBACK_REGISTERED, ACCEPTED)])
def test_the_published_schema_is_that_of_the_code(name: str, golden: bytes) -> None:
    path = Path(__file__).parents[2] / "docs" / "events" / f"{name}.v1.schema.json"
    assert path.read_bytes() == json_schema(
        name
    )  # otherwise: python -m shared.contracts.events NAME > it, if v1 may change so
    schema = json.loads(path.read_bytes())
    assert set(schema["required"]) == set(json.loads(golden))
    [data] = [part for kind, part in schema["$defs"].items() if kind in {"Answer", "Feedback"}]
    assert set(data["required"]) == set(json.loads(golden)["data"])


def test_version_1_is_read() -> None:
    event = prediction(GOLDEN)
    assert event.id == "01890a5d-ac96-774b-bcce-b302099a8057"
    assert event.time.isoformat() == "2026-11-23T02:47:26.123456+00:00"
    assert event.data.inputs == {"edad": 47, "sexo": "F", "tsh": 0.05, "t3": None, "bocio": False}
    assert (event.data.output, event.data.probabilidad) == ("hipertiroidismo", 0.94)
    assert event.data.modelo.version == "7"
    assert event.data.referencia is None
    assert prediction(REFERRED).data.referencia == "5f" * 32
    assert event.data.plausibles is None
    assert prediction(PLAUSIBLE).data.plausibles == ["hipertiroidismo", "sin_alteracion"]


@pytest.mark.parametrize(("golden", "outcome"), [(ACCEPTED, OUTCOME), (CORRECTED, CORRECTION)])
def test_feedback_of_version_1_is_read(golden: bytes, outcome: Feedback) -> None:
    event = read_event(golden)
    assert isinstance(event, FeedbackRegistered)
    assert event.id == "01890a5d-ac96-774b-bcce-b302099a8058"
    assert event.data == outcome


def prediction(body: bytes) -> PredictionMade:
    event = read_event(body)
    assert isinstance(event, PredictionMade)
    return event


def test_the_hash_covers_question_and_answer_but_neither_id_nor_time() -> None:
    def datahash(**changes: Any) -> str:  # noqa: ANN401
        return read_event(written(**changes)).datahash

    assert datahash(event_id="other", time="2027-01-01T00:00:00+00:00") == datahash()
    assert datahash(inputs={"edad": 48}) != datahash()
    assert datahash(score=Score([0.07, 0.93], MODEL)) != datahash()
    assert datahash(reference="5f" * 32) != datahash()
    assert datahash(plausible=["hipertiroidismo"]) != datahash()


def test_a_probability_of_minus_zero_is_written_as_zero() -> None:
    assert written(score=Score([-0.0, 1.0], MODEL)) == written(score=Score([0.0, 1.0], MODEL))


def test_an_unknown_attribute_is_ignored() -> None:
    assert read_event(json.dumps(json.loads(GOLDEN) | {"traceparent": "00-1"}).encode()) == read_event(GOLDEN)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x00\xff", "not JSON"),
        (b"[]", "not an event"),
        (b'{"type":"otra.cosa"}', "not an event"),
        (GOLDEN.replace(b'"version":1', b'"version":99'), "unknown version"),
        (GOLDEN.replace(b'"probabilidad":0.94', b'"probabilidad":"alta"'), "data.probabilidad"),
        (GOLDEN.replace(b'"edad":47', b'"edad":74'), "datahash"),
        (GOLDEN.replace(b'"prediccion.realizada"', b'["lista"]'), "not an event"),
        (GOLDEN.replace(b"prediccion.realizada", b"resultado.registrado"), "data.aceptada"),
        (ACCEPTED.replace(b'"aceptada":true', b'"aceptada":false'), "fields missing or wrong: data$"),
        (CORRECTED.replace(b'"aceptada":false', b'"aceptada":true'), "fields missing or wrong: data$"),
        (CORRECTED.replace(b"14 mU/L", b"74 mU/L"), "datahash"),
    ],
)
def test_the_error_of_an_unreadable_event_omits_its_content(body: bytes, reason: str) -> None:
    with pytest.raises(EventError, match=reason) as caught:
        read_event(body)
    assert "74" not in str(caught.value)
