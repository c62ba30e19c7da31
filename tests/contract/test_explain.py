"""`POST /explicar` in process: its answers, its rejections, and that diagnoses do not wait for it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.gateway.api.explain import AT_ONCE, MOST_ROWS, MOST_WAITING, ROWS_AT_ONCE
from shared.contracts.scoring import ModelFacts, Score
from shared.diseases.thyroid import DatosPaciente
from tests.support.doubles import MODEL, Adding, NoModel
from tests.support.gateway import HYPER, PROBLEM, Client, gateway
from tests.support.waiting import until

KNOWS_GAPS = MODEL.model_copy(update={"never_missing": ()})
EVERYTHING = HYPER | {feature.name: True for feature in DatosPaciente.features if feature.kind == "flag"}


async def explained(client: Client, body: dict[str, Any] = HYPER) -> dict[str, Any]:
    response = await client.post("/explicar", json=body)
    assert response.status_code == 200, response.text
    explanation: dict[str, Any] = response.json()
    return explanation


def shares(explanation: dict[str, Any]) -> dict[str, float]:
    return {each["campo"]: each["aporte"] for each in explanation["contribuciones"]}


async def test_contributions_are_sorted_and_add_up_to_the_answer(tmp_path: Path) -> None:
    scorer = Adding({"tsh": -1, "t3": 0.05, "sexo": 0.1, "bocio": 0.02}, KNOWS_GAPS)
    async with gateway(tmp_path, scorer=scorer) as client:
        explanation = await explained(client, HYPER | {"bocio": True, "litio": False, "t4_total": None})
        answer = (await client.predict(HYPER | {"bocio": True, "t4_total": None})).json()

    assert explanation["modelo"] == {"nombre": "tiroides", "version": "7"}
    assert (explanation["prediccion"], explanation["probabilidad"]) == (answer["prediccion"], answer["probabilidad"])
    assert explanation["base"] == 0.5
    found = shares(explanation)
    expected = {"t3": 0.205, "tsh": -0.05, "bocio": 0.02, "sexo": 0, "edad": 0, "captacion_t4": 0}
    assert found == pytest.approx(expected, abs=1e-12)
    assert [abs(share) for share in found.values()] == sorted(map(abs, found.values()), reverse=True)
    assert explanation["base"] + sum(found.values()) == pytest.approx(answer["probabilidad"], abs=1e-12)
    assert explanation["metodo"].startswith("Valores de Shapley: cuánto cambia en promedio")
    assert client.answered() == 1, "an explanation is not an answer"


async def test_what_is_derived_belongs_to_what_it_is_derived_from(tmp_path: Path) -> None:
    scorer = Adding({"indice_t4_libre": 0.001}, KNOWS_GAPS)
    async with gateway(tmp_path, scorer=scorer) as client:
        derived = shares(await explained(client, HYPER | {"t4_total": 90, "captacion_t4": 0.9}))
        given = shares(await explained(client, HYPER | {"t4_total": 90, "captacion_t4": 0.9, "indice_t4_libre": 100}))
    assert {name: share for name, share in derived.items() if share} == pytest.approx(
        {"t4_total": 0.05, "captacion_t4": 0.05}
    )
    # Without the entered index it is derived, so the three share its effect: it needs its own value, or both others.
    assert sum(given.values()) == pytest.approx(0.1)
    assert given["t4_total"] == pytest.approx(given["captacion_t4"])
    assert given["indice_t4_libre"] > given["t4_total"] > 0


async def test_a_feature_never_missing_is_compared_with_its_middle(tmp_path: Path) -> None:
    model = MODEL.model_copy(update={"never_missing": ("edad", "sexo", "t3"), "training_ranges": {"edad": (20, 60)}})
    async with gateway(tmp_path, scorer=Adding({"t3": 0.05, "edad": 0.001, "sexo": 0.1}, model)) as client:
        woman = await explained(client)
        man = await explained(client, HYPER | {"sexo": "M"})
    assert woman["base"] == pytest.approx(0.5 + 0.05 * 2.1 + 0.001 * 40)  # reference range of T3: 1.1 to 3.1
    assert shares(woman)["sexo"] == pytest.approx(0, abs=1e-12)
    assert shares(woman)["t3"] == pytest.approx(0.1)
    assert shares(woman)["edad"] == pytest.approx(0.007)
    assert shares(man)["sexo"] == pytest.approx(0.1)


async def test_with_many_features_orders_are_drawn_and_repeatable(tmp_path: Path) -> None:
    scorer = Adding({"t3": 0.05, "bocio": 0.02, "indice_t4_libre": 0.0001}, KNOWS_GAPS)
    async with gateway(tmp_path, scorer=scorer) as client:
        first, again = [await explained(client, EVERYTHING) for _ in range(2)]
    assert first == again
    assert "órdenes al azar, siempre los mismos: cuánto cambia" in first["metodo"]
    assert first["base"] + sum(shares(first).values()) == pytest.approx(first["probabilidad"], abs=1e-9)
    assert len(scorer.rows) <= 2 * (MOST_ROWS + 1)


class Swapped:
    """A scorer that answers with another model after `rows` rows."""

    def __init__(self, models: list[ModelFacts], rows: int) -> None:
        self._models, self._rows, self._scored = models, rows, 0

    async def score(self, row: list[float]) -> Score:
        del row
        model = self._models[min(self._scored // self._rows, len(self._models) - 1)]
        self._scored += 1
        return Score([0.4, *[0.1] * 6], model)

    def unavailable(self) -> str | None:
        return None


@pytest.mark.parametrize(("versions", "status"), [(2, 200), (20, 503)])
async def test_two_models_are_never_mixed_in_one_explanation(tmp_path: Path, versions: int, status: int) -> None:
    models = [MODEL.model_copy(update={"version": str(n), "digest": f"{n:064}"}) for n in range(versions)]
    async with gateway(tmp_path, scorer=Swapped(models, 40)) as client:
        response = await client.post("/explicar", json=HYPER)
    assert response.status_code == status
    if status == 200:
        assert response.json()["modelo"]["version"] == "1"
    else:
        assert (response.json()["type"], response.headers["retry-after"]) == ("urn:predecir:problema:modelo", "1")


@pytest.mark.parametrize(
    ("body", "status", "rule"),
    [
        (b"[]", 422, "datos_no_validos"),
        (b'{"edad":', 400, "json_no_valido"),
        (b'{"edad":47,"edad":47,"sexo":"F","tsh":1}', 422, "campo_repetido"),
        (b" " * (256 * 1024 + 1), 413, "tamano"),
    ],
)
async def test_what_could_not_be_predicted_is_not_explained(
    tmp_path: Path, body: bytes, status: int, rule: str
) -> None:
    async with gateway(tmp_path) as client:
        response = await client.post("/explicar", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.headers["content-type"]) == (status, PROBLEM)
    assert response.json()["type"] == f"urn:predecir:problema:{rule}"


async def test_without_a_model_it_is_503(tmp_path: Path) -> None:
    async with gateway(tmp_path, scorer=NoModel()) as client:
        response = await client.post("/explicar", json=HYPER)
    assert (response.status_code, response.json()["type"]) == (503, "urn:predecir:problema:modelo")


class Stalling:
    """A scorer whose callers wait for `go`; `most` is the highest number that waited at once."""

    def __init__(self, scorer: Adding) -> None:
        self._scorer = scorer
        self.go = asyncio.Event()
        self.waiting = self.most = 0

    async def score(self, row: list[float]) -> Score:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await self.go.wait()
            return await self._scorer.score(row)
        finally:
            self.waiting -= 1

    def unavailable(self) -> str | None:
        return None


async def test_explanations_beyond_the_queue_are_rejected_at_once(tmp_path: Path) -> None:
    scorer = Stalling(Adding({"t3": 0.05}))
    async with gateway(tmp_path, scorer=scorer) as client:
        allowed = AT_ONCE + MOST_WAITING
        asked = [asyncio.create_task(client.post("/explicar", json=HYPER)) for _ in range(allowed + 3)]
        await until(lambda: sum(task.done() for task in asked) == 3)
        assert {task.result().json()["type"] for task in asked if task.done()} == {"urn:predecir:problema:saturado"}
        assert scorer.waiting == AT_ONCE
        scorer.go.set()
        assert sorted(response.status_code for response in await asyncio.gather(*asked)) == [200] * allowed + [503] * 3
    assert scorer.most <= AT_ONCE * ROWS_AT_ONCE


async def test_an_explanation_that_times_out_frees_its_place(tmp_path: Path) -> None:
    scorer = Stalling(Adding({"t3": 0.05}))
    async with gateway(tmp_path, scorer=scorer, gateway_deadline_seconds=0.05) as client:
        late = await asyncio.gather(*(client.post("/explicar", json=HYPER) for _ in range(AT_ONCE + MOST_WAITING)))
        assert {response.json()["type"] for response in late} == {"urn:predecir:problema:plazo"}
        assert scorer.waiting == 0
        scorer.go.set()

        async def explained() -> bool:  # on a busy machine it may time out again, but it is admitted each time
            response = await client.post("/explicar", json=HYPER)
            assert response.status_code == 200 or response.json()["type"] == "urn:predecir:problema:plazo"
            return response.status_code == 200

        await until(explained)


async def test_a_diagnosis_waits_for_few_rows_of_an_explanation(tmp_path: Path) -> None:
    scorer = Adding({"t3": 0.05})
    async with gateway(tmp_path, scorer=scorer) as client:
        explaining = [asyncio.create_task(client.post("/explicar", json=EVERYTHING)) for _ in range(AT_ONCE)]
        await until(lambda: len(scorer.rows) > ROWS_AT_ONCE)
        before = len(scorer.rows)
        assert (await client.predict(HYPER)).status_code == 200
        assert not any(task.done() for task in explaining)
        assert len(scorer.rows) - before < MOST_ROWS
        await asyncio.gather(*explaining)


async def test_the_patient_reaches_neither_logs_nor_metrics(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with gateway(tmp_path, scorer=Adding({"t3": 0.05})) as client:
            await explained(client, HYPER | {"tsh": 0.0471})
            metrics = (await client.get("/metrics")).text
    assert [entry["event"] for entry in logs] == ["reference_key_made"], "as at every first start"
    assert "0.0471" not in metrics
    assert "predecir_explanation_seconds_count 1.0" in metrics
