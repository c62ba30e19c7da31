"""`POST /predicciones/{id}/resultado` in process: recorded feedback, and rejections, which repeat no value."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from shared.contracts.events import Feedback, FeedbackRegistered, read_event
from shared.diseases.thyroid import DatosPaciente
from tests.support.doubles import Down, Remembering
from tests.support.gateway import HYPER, PROBLEM, Client, gateway
from tests.support.openapi import body_schema
from tests.support.waiting import until

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
CORRECTION = {"aceptada": False, "diagnostico": "hipotiroidismo", "motivo": "  TSH repetida:\r\n14 mU/L, «clara» "}
TYPESET = "14\N{NO-BREAK SPACE}mU/L,\N{NARROW NO-BREAK SPACE}re\N{SOFT HYPHEN}petida\N{ZERO WIDTH SPACE}\t."


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with gateway(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("body", "diagnosis", "reason"),
    [
        ({"aceptada": True}, None, None),
        ({"aceptada": True, "diagnostico": None, "motivo": " "}, None, None),
        (CORRECTION, "hipotiroidismo", "TSH repetida:\n14 mU/L, «clara»"),
        ({"aceptada": False, "diagnostico": "hipertiroidismo", "motivo": "ñ" * 500}, "hipertiroidismo", "ñ" * 500),
        (CORRECTION | {"motivo": TYPESET}, "hipotiroidismo", TYPESET),
    ],
)
async def test_feedback_is_on_disk_before_it_is_confirmed(
    tmp_path: Path, body: dict[str, Any], diagnosis: str | None, reason: str | None
) -> None:
    recorder = Remembering()
    down = Down(recorder)
    async with gateway(tmp_path, transport=down) as client:
        response = await client.say(ID.upper(), body)
        assert client.gateway.outbox.pending == 1
        down.back.set()
        await until(lambda: client.gateway.outbox.pending == 0)
    said = response.json()
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert said == {"id": said["id"], "prediccion": ID, "aceptada": body["aceptada"], "diagnostico": diagnosis}
    [delivery] = recorder.deliveries
    event = read_event(delivery.body)
    assert isinstance(event, FeedbackRegistered)
    assert (event.id, UUID(event.id).version) == (said["id"], 7)
    assert event.data == Feedback(prediccion=ID, aceptada=body["aceptada"], diagnostico=diagnosis, motivo=reason)


async def test_feedback_and_answers_share_one_sequence_and_are_all_recorded(client: Client) -> None:
    given = (await client.predict(HYPER)).json()["id"]
    for body in (CORRECTION, {"aceptada": True}, {"aceptada": True}):
        assert (await client.say(given, body)).status_code == 200
    await until(lambda: client.gateway.outbox.pending == 0)
    assert [delivery.seq for delivery in client.recorder.deliveries] == [1, 2, 3, 4]
    assert len({read_event(delivery.body).id for delivery in client.recorder.deliveries}) == 4
    metrics = (await client.get("/metrics")).text
    assert 'predecir_outcomes_total{accepted="true"} 2.0' in metrics
    assert 'predecir_outcomes_total{accepted="false"} 1.0' in metrics


async def test_a_repeated_key_is_one_feedback_of_its_prediction(client: Client) -> None:
    key = {"Idempotency-Key": "k1"}
    predicted = (await client.predict(HYPER, **key)).json()["id"]
    same = await asyncio.gather(*(client.say(ID, {"aceptada": True}, **key) for _ in range(20)))
    assert len({response.content for response in same}) == 1
    another = (await client.say(predicted, {"aceptada": True}, **key)).json()
    assert len({predicted, same[0].json()["id"], another["id"]}) == 3
    assert client.answered() == 3
    reused = await client.say(ID, CORRECTION, **key)
    assert (reused.status_code, reused.json()["type"]) == (422, "urn:predecir:problema:clave_reutilizada")
    assert client.answered() == 3


@pytest.mark.parametrize(
    ("body", "status", "field", "rule"),
    [
        ({}, 422, "aceptada", "obligatorio"),
        ({"aceptada": "true"}, 422, "aceptada", "tipo"),
        ({"aceptada": False}, 422, "diagnostico", "obligatorio"),
        ({"aceptada": True, "diagnostico": "hipotiroidismo"}, 422, "diagnostico", "sobra"),
        ({"aceptada": False, "diagnostico": "gripe"}, 422, "diagnostico", "opciones"),
        ({"aceptada": False, "diagnostico": 3}, 422, "diagnostico", "tipo"),
        (CORRECTION | {"motivo": "x" * 501}, 422, "motivo", "limites"),
        (CORRECTION | {"motivo": "a\0b"}, 422, "motivo", "caracteres"),
        (CORRECTION | {"motivo": "a\x85b"}, 422, "motivo", "caracteres"),
        (CORRECTION | {"motivo": ["x"]}, 422, "motivo", "tipo"),
        (CORRECTION | {"por": "x"}, 422, "por", "campo_desconocido"),
        ([1], 422, "", "tipo"),
        (b'{"aceptada":', 400, None, "json_no_valido"),
        (b"[" * 40, 400, None, "anidamiento"),
        (b" " * (256 * 1024 + 1), 413, None, "tamano"),
    ],
)
async def test_bad_feedback_is_rejected_in_spanish_and_not_recorded(
    client: Client, body: object, status: int, field: str | None, rule: str
) -> None:
    response = await client.say(ID, body)
    assert (response.status_code, response.headers["content-type"]) == (status, PROBLEM)
    problem = response.json()
    if field is None:
        assert problem["type"].endswith(rule)
    else:
        assert [(fault["campo"], fault["regla"]) for fault in problem["errores"]] == [(field, rule)]
    assert client.answered() == 0


async def test_a_bad_id_content_type_or_key_is_rejected(client: Client) -> None:
    wrong = await client.say("nada", {"aceptada": True})
    assert (wrong.status_code, wrong.json()["errores"][0]["campo"]) == (422, "id")
    assert (await client.say(ID, {"aceptada": True}, **{"Content-Type": "text/plain"})).status_code == 415
    assert (await client.say(ID, {"aceptada": True}, **{"Idempotency-Key": ""})).status_code == 400
    assert client.answered() == 0


async def test_the_reason_reaches_neither_logs_nor_metrics_nor_refusals(client: Client) -> None:
    with capture_logs() as logs:
        for body in (CORRECTION, CORRECTION | {"motivo": "14 mU/L \0"}, CORRECTION | {"diagnostico": "14 mU/L"}):
            response = await client.say(ID, body)
            assert "14 mU/L" not in response.text
    assert [entry["event"] for entry in logs] == ["request_rejected"], "one line a second"
    assert "14 mU/L" not in str(logs)
    metrics = (await client.get("/metrics")).text
    assert "14 mU/L" not in metrics
    assert 'predecir_refusals_total{rule="datos_no_validos"} 2.0' in metrics


async def test_feedback_that_cannot_be_stored_is_not_confirmed(tmp_path: Path) -> None:
    async with gateway(tmp_path, transport=Down(Remembering()), outbox_max_events=1) as client:
        statuses = [(await client.say(ID, {"aceptada": True})).status_code for _ in range(2)]
        assert client.answered() == 1
    assert statuses == [200, 503]


async def test_unconfirmed_feedback_is_marked_like_an_answer(tmp_path: Path) -> None:
    async with gateway(tmp_path, transport=Down(Remembering()), ack_policy="broker", ack_wait_ms=1) as client:
        response = await client.say(ID, {"aceptada": True})
    assert (response.status_code, response.headers["confirmada"]) == (200, "false")


async def test_a_body_that_does_not_arrive_times_out(tmp_path: Path) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with gateway(tmp_path, gateway_deadline_seconds=0.05) as client:
        headers = {"Content-Type": "application/json"}
        response = await client.post(f"/predicciones/{ID}/resultado", content=stalls(), headers=headers)
    assert response.status_code == 408


async def test_the_documentation_lists_the_diagnoses(client: Client) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/predicciones/{id}/resultado"]["post"]
    schema = body_schema(document, operation)
    assert schema["properties"]["diagnostico"]["anyOf"][0]["enum"] == list(DatosPaciente.disease.classes)
    assert operation["responses"]["422"]["content"].keys() == {PROBLEM}
