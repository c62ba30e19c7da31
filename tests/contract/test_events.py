"""Events: golden files of version 1, published schemas, rejected bodies."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.events import (
    CLOCK_TOLERANCE,
    EARLIEST,
    FEEDBACK_REGISTERED,
    LARGEST_EVENT,
    LONGEST_NAME,
    LONGEST_REASON,
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
KEYED = (FOLDER / "prediccion.realizada.v1.clave.json").read_bytes()
ACCEPTED = (FOLDER / "resultado.registrado.v1.json").read_bytes()
CORRECTED = (FOLDER / "resultado.registrado.v1.corregido.json").read_bytes()
KEYED_ACCEPTED = (FOLDER / "resultado.registrado.v1.clave.json").read_bytes()
KEY_ID = "3f9c0a61b2d4"
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


def registered(outcome: Feedback, key_id: str = "") -> bytes:
    return write_feedback(
        event_id="01890a5d-ac96-774b-bcce-b302099a8058",
        source="/gateway/1c1b5f6e-0f0e-4a52-8d4c-3f3a4f7d8a11",
        time="2026-11-23T05:47:26.123456+00:00",
        feedback=outcome,
        key_id=key_id,
    )


def test_version_1_is_written_as_it_always_was() -> None:
    assert written() == GOLDEN
    assert written(reference="5f" * 32) == REFERRED
    assert written(plausible=["hipertiroidismo", "sin_alteracion"]) == PLAUSIBLE
    assert written(key_id=KEY_ID) == KEYED
    assert registered(OUTCOME) == ACCEPTED
    assert registered(OUTCOME, KEY_ID) == KEYED_ACCEPTED
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
    assert event.claveid is None
    assert [read_event(body).claveid for body in (KEYED, KEYED_ACCEPTED)] == [KEY_ID, KEY_ID]


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


def test_the_hash_covers_question_and_answer_but_no_id_time_or_key() -> None:
    def datahash(**changes: Any) -> str:  # noqa: ANN401
        return read_event(written(**changes)).datahash

    assert datahash(event_id="other", time="2026-01-01T00:00:00+00:00") == datahash()
    assert datahash(key_id=KEY_ID) == datahash()
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
        (KEYED.replace(b'"claveid":"3f9c', b'"claveid":"=74 '), "fields missing or wrong: claveid"),
        (KEYED.replace(b'"claveid":"3f9c', b'"claveid":"' + b"74" * 32), "fields missing or wrong: claveid"),
    ],
)
def test_the_error_of_an_unreadable_event_omits_its_content(body: bytes, reason: str) -> None:
    with pytest.raises(EventError, match=reason) as caught:
        read_event(body)
    assert "74" not in str(caught.value)


READ = datetime(2026, 11, 23, 12, 0, tzinfo=timezone(timedelta(hours=-5)))
"""When these events are read."""
DEEP = "[" * 40 + "]" * 40


def changed(body: bytes, *path: str, value: object) -> bytes:
    """Return an event with another value at `path` of its data, and the hash that holds then."""
    event = json.loads(body)
    *parents, last = path
    part = event["data"]
    for name in parents:
        part = part[name]
    part[last] = value
    return signed(event)


def signed(event: Mapping[str, Any]) -> bytes:
    return orjson.dumps({**event, "datahash": hashlib.sha256(orjson.dumps(event["data"])).hexdigest()})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (changed(GOLDEN, "inputs", value={"edad": [47]}), "data.inputs"),
        (changed(GOLDEN, "inputs", value={"edad": {"años": 47}}), "data.inputs"),
        (changed(GOLDEN, "inputs", value=json.loads(DEEP)), "data.inputs"),
        (changed(GOLDEN, "inputs", value={"edad": json.loads(DEEP)}), "data.inputs"),
        (changed(GOLDEN, "output", value="a" * (LONGEST_NAME + 1)), "data.output"),
        (changed(GOLDEN, "paciente", value="a" * (LONGEST_NAME + 1)), "data.paciente"),
        *(
            (changed(GOLDEN, "modelo", name, value="a" * (LONGEST_NAME + 1)), f"data.modelo.{name}")
            for name in ("nombre", "version", "digest")
        ),
        (changed(REFERRED, "referencia", value="5F" * 32), "data.referencia"),
        (changed(REFERRED, "referencia", value="5f" * 33), "data.referencia"),
        *(
            (changed(GOLDEN, "probabilidad", value=value), "data.probabilidad")
            for value in ("0.94", "nan", True, 5.0, -0.1, 1.01, 1e308)
        ),
        *(
            (changed(GOLDEN, "probabilidades", "sin_alteracion", value=value), "data.probabilidades")
            for value in ("inf", -1, 2, None)
        ),
        (changed(GOLDEN, "probabilidades", value=dict.fromkeys(map(str, range(1000)))), "wrong: 1000 of them"),
        (changed(GOLDEN, "output", value="bocio"), "its output is no class"),
        (changed(GOLDEN, "probabilidad", value=0.06), "another probability"),
        (changed(PLAUSIBLE, "plausibles", value=["bocio"]), "plausible classes"),
        (changed(CORRECTED, "motivo", value="a" * (LONGEST_REASON + 1)), "data.motivo"),
        (changed(CORRECTED, "diagnostico", value="a" * (LONGEST_NAME + 1)), "data.diagnostico"),
        (changed(ACCEPTED, "aceptada", value="true"), "data.aceptada"),
        (signed(json.loads(GOLDEN) | {"note": "a" * LARGEST_EVENT}), f"longer than {LARGEST_EVENT} bytes"),
    ],
)
def test_an_event_out_of_its_bounds_is_an_error(body: bytes, reason: str) -> None:
    with pytest.raises(EventError, match=reason):
        read_event(body, READ)


@pytest.mark.parametrize("golden", [GOLDEN, ACCEPTED])
@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (READ + CLOCK_TOLERANCE, None),
        (EARLIEST, None),
        (READ + CLOCK_TOLERANCE + timedelta(seconds=1), "more than 10 minutes ahead"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))), "more than 10 minutes ahead"),
        (EARLIEST - timedelta(seconds=1), "before 1970"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=23))), "before 1970"),
    ],
)
def test_a_time_is_since_1970_and_minutes_ahead_at_most(golden: bytes, time: datetime, reason: str | None) -> None:
    body = orjson.dumps(json.loads(golden) | {"time": time.isoformat()})
    if reason is None:
        assert read_event(body, READ).time == time
    else:
        with pytest.raises(EventError, match=reason):
            read_event(body, READ)


def test_the_clock_of_this_machine_counts_by_default() -> None:
    with pytest.raises(EventError, match="ahead of the clock here"):
        read_event(written(time=(datetime.now().astimezone() + timedelta(hours=1)).isoformat()))


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=LONGEST_NAME)
VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)


@given(
    inputs=st.dictionaries(NAMES, VALUES | NAMES),
    probabilities=st.dictionaries(NAMES, st.floats(0, 1, width=32), min_size=1),
    reason=st.none() | st.text(st.characters(codec="utf-8"), max_size=LONGEST_REASON),
    model=st.tuples(NAMES, NAMES, NAMES),
)
def test_every_event_that_a_gateway_can_write_is_read(
    inputs: dict[str, Any], probabilities: dict[str, float], reason: str | None, model: tuple[str, str, str]
) -> None:
    """Whatever the disease: of any features, classes, names and model."""
    name, version, digest = model
    classes = tuple(probabilities)
    facts = MODEL.model_copy(update={"name": name, "version": version, "digest": digest, "classes": classes})
    score = replace(Score([], facts), probabilities=list(probabilities.values()))
    body = written(inputs=inputs, output=classes[0], score=score, plausible=list(classes), reference="5f" * 32)
    assert prediction(body).data.probabilidades == probabilities
    feedback = OUTCOME.model_copy(update={"aceptada": False, "diagnostico": classes[0], "motivo": reason})
    assert read_event(registered(feedback)).data == feedback


def test_a_probability_of_one_in_single_precision_is_read() -> None:
    above = 1.00000012
    assert prediction(written(score=Score([0.0, above], MODEL))).data.probabilidad == above


@given(st.recursive(VALUES | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_changed_event_raises_its_own_error_only(value: object) -> None:
    for body in (GOLDEN, PLAUSIBLE, CORRECTED):
        whole = json.loads(body)
        documents = [value, *(whole | {name: value} for name in whole)]
        data = whole["data"]
        documents += [whole | {"data": data | {name: value}} for name in [*data, "extra"]]
        for document in documents:
            try:
                read_event(json.dumps(document).encode(), READ)
            except EventError as error:
                assert len(str(error)) < 200  # noqa: PT017 - it may be read as well
