"""`POST /predecir` in process: answers, their recording, and rejections without room, time or a model."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.recorder.db.tables import CUARENTENA, DUPLICADOS, PREDICCIONES
from shared.contracts.events import PredictionMade, read_event
from shared.contracts.scoring import Score
from shared.diseases.thyroid import DatosPaciente
from shared.patient import measure
from shared.web.hosting import StartError, http_app
from tests.support.doubles import MODEL, Always, Down, NoModel, Remembering, ThyroidByTsh
from tests.support.gateway import HYPER, PROBLEM, Client, gateway
from tests.support.openapi import body_schema
from tests.support.recorder_suite import recording
from tests.support.targets import SqliteTarget
from tests.support.waiting import until


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with gateway(tmp_path) as opened:
        yield opened


async def test_a_patient_gets_an_answer_with_all_its_parts(client: Client) -> None:
    response = await client.predict(HYPER)
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    answer = response.json()
    assert answer["prediccion"] == "hipertiroidismo"
    assert answer["etiqueta"] == "Hipertiroidismo"
    assert answer["probabilidad"] == answer["probabilidades"]["hipertiroidismo"] == 0.94
    assert list(answer["probabilidades"]) == list(DatosPaciente.disease.classes)
    assert (answer["baja_prevalencia"], answer["prevalencia"]) == (True, 1 / 7)
    assert answer["modelo"] == {"nombre": "tiroides", "version": "7"}
    assert (answer["plausibles"], answer["concluyente"]) == (["hipertiroidismo"], True)


@pytest.mark.parametrize("written", [b"47.0", b"4.7e1"])
async def test_every_spelling_of_an_age_is_the_same_request(client: Client, written: bytes) -> None:
    body = json.dumps(HYPER).encode().replace(b'"edad": 47', b'"edad": ' + written)
    assert written in body
    first = await client.predict(HYPER, **{"Idempotency-Key": "k1"})
    again = await client.predict(body, **{"Idempotency-Key": "k1"})
    assert (again.status_code, again.content) == (200, first.content)
    other = await client.predict(body)
    assert other.json() == first.json() | {"id": other.json()["id"]}
    await until(lambda: len(client.recorder.deliveries) == 2)
    events = [read_event(delivery.body) for delivery in client.recorder.deliveries]
    assert {repr(event.data.inputs["edad"]) for event in events if isinstance(event, PredictionMade)} == {"47"}
    explained = [
        await client.post("/explicar", content=each, headers={"Content-Type": "application/json"})
        for each in (body, json.dumps(HYPER).encode())
    ]
    assert [each.status_code for each in explained] == [200, 200]
    assert explained[0].json() == explained[1].json()


@pytest.mark.parametrize(
    ("threshold", "plausible"),
    [
        (None, ["hipotiroidismo"]),
        (0.9, ["hipotiroidismo"]),
        (0.3, ["hipotiroidismo"]),
        (0.25, ["hipotiroidismo", "sin_alteracion", "resultados_discordantes"]),
        (0.1, ["hipotiroidismo", "sin_alteracion", "resultados_discordantes", "hipertiroidismo"]),
    ],
)
async def test_plausible_is_what_reaches_the_threshold_and_the_answer(
    tmp_path: Path, threshold: float | None, plausible: list[str]
) -> None:
    probabilities = [0.25, 0.4, 0, 0, 0, 0.1, 0.25]
    async with gateway(
        tmp_path, scorer=Always(probabilities, MODEL.model_copy(update={"plausible_at": threshold}))
    ) as client:
        answer = (await client.predict(HYPER)).json()
    assert answer["prediccion"] == "hipotiroidismo"
    assert answer["plausibles"] == plausible
    assert answer["concluyente"] is (len(plausible) == 1)
    [delivery] = client.recorder.deliveries
    event = read_event(delivery.body)
    assert isinstance(event, PredictionMade)
    assert event.data.plausibles == plausible


async def test_the_answer_is_in_the_outbox_before_it_is_sent(tmp_path: Path) -> None:
    recorder = Remembering()
    down = Down(recorder)
    async with gateway(tmp_path, transport=down) as client:
        given = (await client.predict(HYPER)).json()
        assert client.gateway.outbox.pending == 1
        await down.tried.wait()
        assert client.gateway.outbox.pending == 1
        down.back.set()
        await until(lambda: client.gateway.outbox.pending == 0)
    [delivery] = recorder.deliveries
    event = read_event(delivery.body)
    assert isinstance(event, PredictionMade)
    assert (event.id, delivery.seq) == (given["id"], 1)
    assert event.data.inputs["tsh"] == 0.05
    assert event.data.inputs["litio"] is False
    assert event.data.probabilidades == given["probabilidades"]
    assert event.data.modelo.digest == "d" * 64


@pytest.mark.parametrize(
    ("values", "remarks"),
    [
        ({}, {("tsh", "fuera_de_referencia"), ("t3", "fuera_de_referencia"), ("t4_total", "fuera_de_referencia")}),
        ({"tsh": 2, "t3": None, "t4_total": 100}, set()),
        ({"tsh": 600, "t3": 2, "t4_total": 100}, {("tsh", "fuera_de_referencia"), ("tsh", "fuera_de_entrenamiento")}),
        ({"edad": 120, "tsh": 1, "t3": 2, "t4_total": 100}, {("edad", "fuera_de_entrenamiento")}),
        ({"edad": None, "tsh": 1, "t3": 2, "t4_total": 100}, {("edad", "ausente_inesperado")}),
        ({"tsh": 1, "t3": 2, "t4_total": None}, {("indice_t4_libre", "ausente_inesperado")}),
        ({"tsh": 1, "t3": 2, "t4_total": 90, "indice_t4_libre": 120}, {("indice_t4_libre", "indice_contradictorio")}),
    ],
)
async def test_remarks_have_field_and_code_without_the_value(
    client: Client, values: dict[str, Any], remarks: set[tuple[str, str]]
) -> None:
    answer = (await client.predict(HYPER | values)).json()
    assert {(remark["campo"], remark["codigo"]) for remark in answer["avisos"]} == remarks


async def test_a_repeated_key_gets_the_same_answer_and_is_one_event(client: Client) -> None:
    first, second = [await client.predict(HYPER, **{"Idempotency-Key": "k1"}) for _ in range(2)]
    assert first.content == second.content
    assert client.answered() == 1


async def test_fifty_at_once_with_one_key_are_one_event(client: Client) -> None:
    responses = await asyncio.gather(*(client.predict(HYPER, **{"Idempotency-Key": "k1"}) for _ in range(50)))
    assert len({response.content for response in responses}) == 1
    assert client.answered() == 1


async def test_a_key_reused_with_another_body_is_rejected(client: Client) -> None:
    await client.predict(HYPER, **{"Idempotency-Key": "k1"})
    response = await client.predict(HYPER | {"edad": 48}, **{"Idempotency-Key": "k1"})
    assert response.status_code == 422
    assert response.json()["type"].endswith("clave_reutilizada")
    assert client.answered() == 1


class WithAnotherColumn(DatosPaciente):
    ferritina: float | None = measure("Ferritina", unit="ng/mL", limits=(0, 10_000))


async def test_a_key_repeated_after_the_class_got_a_column_gets_the_same_answer(tmp_path: Path) -> None:
    key = {"Idempotency-Key": "k1"}
    async with gateway(tmp_path) as client:
        first = await client.predict(HYPER, **key)
    async with gateway(tmp_path, patient=WithAnotherColumn) as client:
        again = await client.predict(HYPER, **key)
        explicit = await client.predict(HYPER | {"ferritina": None}, **key)
        other = await client.predict(HYPER | {"ferritina": 30}, **key)
        assert client.answered() == 1
    assert first.content == again.content == explicit.content
    assert (other.status_code, other.json()["type"]) == (422, "urn:predecir:problema:clave_reutilizada")


async def test_a_key_repeated_after_its_hours_is_one_row_by_the_databases_own_key(tmp_path: Path) -> None:
    newer = Always([0.94, *[0.01] * 6], MODEL.model_copy(update={"version": "8"}))
    key = {"Idempotency-Key": "k1"}
    answers = []
    async with recording(SqliteTarget(tmp_path / "p.db")) as recorder:
        for scorer in (ThyroidByTsh(), ThyroidByTsh(), newer):
            async with gateway(
                tmp_path, scorer=scorer, transport=recorder.store, gateway_idempotency_hours=1e-9
            ) as client:
                answers.append((await client.predict(HYPER, **key)).json())
        account = (await recorder.account())[client.gateway.outbox.gateway_id]
        (row,) = await recorder.rows(PREDICCIONES)
        (repeated,) = await recorder.rows(DUPLICADOS)
        (other,) = await recorder.rows(CUARENTENA)
    assert {row.id, *(answer["id"] for answer in answers)} == {row.id}
    assert (row.seq, repeated.seq, other.seq) == (1, 2, 3)
    assert (row.modelo_version, json.loads(other.cuerpo)["data"]["modelo"]["version"]) == ("7", "8")
    assert other.motivo == "its id is recorded with another question or answer"
    counts = (account.recorded, account.duplicates, account.quarantined, account.missing)
    assert (account.answered, counts) == (3, (1, 1, 1, 0))


async def test_two_keys_at_once_are_rejected(client: Client) -> None:
    headers = [("Content-Type", "application/json"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = await client.post("/predecir", content=json.dumps(HYPER), headers=headers)
    assert response.status_code == 400


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_an_unusable_key_is_rejected(client: Client, key: str) -> None:
    assert (await client.predict(HYPER, **{"Idempotency-Key": key})).status_code == 400


async def test_without_a_model_it_is_503_with_retry_after_and_not_ready(tmp_path: Path) -> None:
    async with gateway(tmp_path, scorer=NoModel()) as client:
        response = await client.predict(HYPER)
        ready = await client.get("/health/ready")
        assert client.answered() == 0
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert ready.status_code == 503
    assert ready.json()["motivos"] == {"modelo": "El modelo no está disponible."}
    assert ready.json()["mensajes_tecnicos"] == {"modelo": "no model in production"}


async def test_an_answer_that_cannot_be_stored_is_not_sent(client: Client) -> None:
    await client.predict(HYPER)
    database = client.gateway.outbox.file.connection  # a disk that fills up under a running gateway
    database.execute("PRAGMA max_page_count = 1")
    responses = await asyncio.gather(*(client.predict(HYPER) for _ in range(200)))
    refused = [response for response in responses if response.status_code == 503]
    assert refused
    assert {response.json()["type"] for response in refused} == {"urn:predecir:problema:sin_espacio"}
    assert "probabilidad" not in refused[0].text
    assert client.answered() == 1 + len(responses) - len(refused)


@pytest.mark.parametrize("lose", [Path.unlink, lambda file: file.rename(file.with_name("moved"))])
async def test_a_lost_outbox_is_reported_as_lost_and_not_as_a_full_disk(
    tmp_path: Path, lose: Callable[[Path], object]
) -> None:
    async with gateway(tmp_path) as client:
        await client.predict(HYPER)
        lose(tmp_path / "gateway" / "outbox.db")

        async def rejected() -> bool:
            return (await client.predict(HYPER)).status_code == 503

        with capture_logs() as logs:
            await until(rejected)
        response, ready = await client.predict(HYPER), await client.get("/health/ready")
        answered = client.answered()
        await until(lambda: len(client.recorder.deliveries) == answered)  # those in the lost file are recorded
    assert (response.status_code, response.json()["type"]) == (503, "urn:predecir:problema:outbox")
    assert "espacio" not in response.text + ready.text
    assert ready.json()["motivos"] == {"disco": "No se pueden guardar respuestas."}
    assert "outbox.db was moved, deleted or replaced" in ready.json()["mensajes_tecnicos"]["disco"]
    assert "outbox.db was moved, deleted or replaced" in str(logs)


async def test_a_write_that_fails_with_space_left_is_not_reported_as_a_full_disk(client: Client) -> None:
    await client.predict(HYPER)
    client.gateway.outbox.file.connection.execute("PRAGMA query_only = ON")
    response, next_one = [await client.predict(HYPER) for _ in range(2)]
    client.gateway.outbox.file.connection.execute("PRAGMA query_only = OFF")
    for refused in (response, next_one):
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:predecir:problema:outbox")


class NeverScores:
    """A scorer that never returns."""

    async def score(self, row: list[float]) -> Score:
        del row
        await asyncio.Event().wait()
        raise AssertionError

    def unavailable(self) -> str | None:
        return None


async def test_an_answer_that_takes_too_long_is_503(tmp_path: Path) -> None:
    async with gateway(tmp_path, scorer=NeverScores(), gateway_deadline_seconds=0.05) as client:
        response = await client.predict(HYPER)
    assert (response.status_code, response.json()["type"]) == (503, "urn:predecir:problema:plazo")


async def test_a_body_that_does_not_arrive_is_408_and_holds_no_place(tmp_path: Path) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield b'{"edad":'
        await asyncio.Event().wait()

    async with gateway(tmp_path, gateway_deadline_seconds=0.2, gateway_max_in_flight=1) as client:
        headers = {"Content-Type": "application/json"}
        stalled = asyncio.create_task(client.post("/predecir", content=stalls(), headers=headers))
        await asyncio.wait({stalled}, timeout=0)
        assert (await client.predict(HYPER)).status_code == 200
        response = await stalled
        assert (response.status_code, response.headers["connection"]) == (408, "close")


async def test_a_full_outbox_rejects_before_any_inference(tmp_path: Path) -> None:
    scorer = ThyroidByTsh()
    async with gateway(tmp_path, scorer=scorer, transport=Down(Remembering()), outbox_max_events=2) as client:
        statuses = [(await client.predict(HYPER)).status_code for _ in range(3)]
    assert statuses == [200, 200, 503]
    assert len(scorer.rows) == 2


async def test_a_disk_without_room_rejects_before_any_inference(tmp_path: Path) -> None:
    scorer = ThyroidByTsh()
    async with gateway(tmp_path, scorer=scorer, outbox_min_free_mb=10**9) as client:
        response = await client.predict(HYPER)
        ready = await client.get("/health/ready")
    assert (response.status_code, response.json()["type"]) == (503, "urn:predecir:problema:sin_espacio")
    assert ready.json()["motivos"] == {"disco": "No queda espacio para guardar respuestas."}
    assert scorer.rows == []


async def test_more_requests_than_allowed_at_once_are_rejected(tmp_path: Path) -> None:
    async with gateway(tmp_path, gateway_max_in_flight=5) as client:
        responses = await asyncio.gather(*(client.predict(HYPER) for _ in range(40)))
    statuses = {response.status_code for response in responses}
    assert statuses == {200, 503}


def patients() -> int:
    gc.collect()
    return sum(isinstance(each, DatosPaciente) for each in gc.get_objects())


async def test_a_rejected_request_leaves_no_state(tmp_path: Path) -> None:
    before = patients()
    async with gateway(tmp_path, gateway_max_in_flight=1) as client:
        responses = await asyncio.gather(*(client.predict(HYPER) for _ in range(40)))
    assert 503 in {response.status_code for response in responses}
    assert patients() <= before


async def test_answers_from_before_a_stop_are_handed_over_after_the_start(tmp_path: Path) -> None:
    async with gateway(tmp_path, transport=Down(Remembering())) as client:
        given = (await client.predict(HYPER)).json()["id"]
    async with gateway(tmp_path) as client:
        recorder = client.recorder
        await until(lambda: client.gateway.outbox.pending == 0)
    assert [read_event(delivery.body).id for delivery in recorder.deliveries] == [given]


async def test_a_second_gateway_on_the_same_folder_does_not_start(tmp_path: Path) -> None:
    async with gateway(tmp_path):
        with pytest.raises(StartError, match=r"outbox\.db: .+; does another gateway use it\?\)$"):
            async with gateway(tmp_path):
                pass


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "rebound.example"}, 403),
        ({"Host": "localhost:8000", "Origin": "https://evil.example"}, 403),
        ({"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"}, 200),
    ],
)
async def test_a_page_of_another_site_cannot_ask(client: Client, headers: dict[str, str], status: int) -> None:
    assert (await client.predict(HYPER, **headers)).status_code == status
    assert (await client.get("/health/live", headers=headers)).status_code == status


async def test_the_documentation_loads_nothing_from_elsewhere(client: Client) -> None:
    page = (await client.get("/docs")).text
    assert "http" not in page.replace("http-equiv", "")
    script = page.partition('src="')[2].partition('"')[0]
    assert (await client.get(script)).status_code == 200


async def test_the_documentation_describes_the_patient_and_the_answer(client: Client) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/predecir"]["post"]
    schema = body_schema(document, operation)
    assert set(schema["properties"]) == set(DatosPaciente.columns)
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("Respuesta")


async def test_the_documented_route_and_the_hot_one_are_the_same(client: Client) -> None:
    """The hot path only skips layers: the framework's own route returns the same."""
    registry = CollectorRegistry()
    slow = http_app("test", client.gateway.part, registry=registry)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(slow), base_url="http://localhost") as framework:
        response = await framework.post("/predecir", json=HYPER)
    hot = await client.predict(HYPER)
    assert response.status_code == hot.status_code == 200
    assert response.json() | {"id": ""} == hot.json() | {"id": ""}
    assert client.answered() == 2


async def test_an_unknown_address_is_a_problem_in_spanish(client: Client) -> None:
    for response in (await client.get("/nada"), await client.get("/predecir")):
        assert response.headers["content-type"] == PROBLEM
    assert (await client.get("/nada")).json()["title"] == "No encontrado"
