"""The Open Inference Protocol v2 over REST, against the real application and a real model."""

import asyncio
import gzip
import json
import math
import zlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope
from structlog.testing import capture_logs

from services.gateway.key_admin import create
from services.inference.api.errors import hot_app, translated
from services.inference.app import Inference, open_inference
from services.inference.settings import InferenceSettings
from shared.contracts.open_inference import ErrorBody, InferResponse, ModelMetadata
from shared.web.api_keys import ApiKeyStore, Role
from shared.web.hosting import LARGEST_BODY, Part, edge_app, edge_of, http_app
from shared.web.middleware import EdgeMiddleware
from shared.web.rate_limit import RateLimit
from shared.web.rejections import Rejections
from shared.web.routing import Router
from tests.support.bundles import PacienteDePrueba, RevisedThyroid, make_bundle, point_production, random_rows

MODEL = "/v2/models/prueba"
EXTENSIONS = ["predecir_model_parameters", "binary_tensor_data", "classification"]
ROWS = random_rows(PacienteDePrueba, 1000, seed=5)


def opened(var: Path, registry: CollectorRegistry) -> AbstractAsyncContextManager[Inference]:
    return open_inference(InferenceSettings(PREDECIR_VAR=var), registry, PacienteDePrueba)


def client_of(inference: Inference, registry: CollectorRegistry) -> httpx.AsyncClient:
    app = http_app("test", inference.part, registry=registry)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def inference(tmp_path: Path, registry: CollectorRegistry) -> AsyncIterator[Inference]:
    make_bundle(tmp_path, PacienteDePrueba, version="7")
    async with opened(tmp_path, registry) as inference:
        yield inference


@pytest.fixture
async def client(inference: Inference, registry: CollectorRegistry) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(inference, registry) as client:
        yield client


@pytest.fixture
async def empty_client(tmp_path: Path, registry: CollectorRegistry) -> AsyncIterator[httpx.AsyncClient]:
    async with opened(tmp_path, registry) as inference, client_of(inference, registry) as client:
        yield client


def body(rows: list[list[float]], **changes: object) -> dict[str, Any]:
    data = [[None if np.isnan(value) else value for value in row] for row in rows]
    tensor = {"name": "paciente", "shape": [len(rows), 4], "datatype": "FP32", "data": data}
    return {"inputs": [tensor | changes]}


async def test_a_batch_answers_what_the_scorer_of_the_process_answers(
    client: httpx.AsyncClient, inference: Inference
) -> None:
    response = await client.post(f"{MODEL}/infer", json=body(ROWS[:20]) | {"id": "42"})
    assert response.status_code == 200
    answer = InferResponse.model_validate_json(response.content)
    scores = await asyncio.gather(*(inference.scorer.score(row) for row in ROWS[:20]))
    assert (answer.model_name, answer.model_version, answer.id) == ("prueba", "7", "42")
    assert answer.parameters.digest == scores[0].model.digest
    (output,) = answer.outputs
    assert (output.name, output.datatype, output.shape) == ("probabilidades", "FP64", [20, 2])
    assert output.data == [probability for score in scores for probability in score.probabilities]


async def test_flat_data_and_a_version_and_a_wanted_output_change_nothing(client: httpx.AsyncClient) -> None:
    nested = body(ROWS[:3])
    flat = body(ROWS[:3], data=[*chain(*nested["inputs"][0]["data"])]) | {"outputs": [{"name": "probabilidades"}]}
    responses = [
        await client.post(f"{MODEL}/infer", json=nested),
        await client.post(f"{MODEL}/versions/7/infer", json=flat),
    ]
    assert [response.status_code for response in responses] == [200, 200]
    assert responses[0].json() == responses[1].json()
    assert "id" not in responses[0].json()


def binary_body(rows: list[list[float]], datatype: str = "<f4", **output: object) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a request as Triton's client sends it."""
    data = np.array(rows, datatype).tobytes()
    name = {"<f4": "FP32", "<f8": "FP64"}[datatype]
    tensor = {"name": "paciente", "shape": [len(rows), 4], "datatype": name}
    requested = {"outputs": [{"name": "probabilidades", "parameters": output}]} if output else {}
    parameters = {"parameters": {"binary_data_output": True}}
    inputs = {"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]}
    text = json.dumps(inputs | (requested or parameters)).encode()
    return text + data, {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}


def parts(response: httpx.Response) -> tuple[dict[str, Any], bytes]:
    """Return the JSON of a binary response, and the bytes behind it."""
    length = int(response.headers["Inference-Header-Content-Length"])
    answer: dict[str, Any] = json.loads(response.content[:length])
    return answer, response.content[length:]


@pytest.mark.parametrize("path", [f"{MODEL}/infer", f"{MODEL}/versions/7/infer"])
@pytest.mark.parametrize("datatype", ["<f4", "<f8"])
async def test_binary_tensors_get_the_same_answer_as_json(client: httpx.AsyncClient, path: str, datatype: str) -> None:
    rows = [[math.nan, *ROWS[0][1:]], *ROWS[1:20]]
    in_json = (await client.post(path, json=body(rows))).json()
    content, headers = binary_body(rows, datatype)
    response = await client.post(path, content=content, headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/octet-stream")
    answer, binary = parts(response)
    [output] = answer.pop("outputs")
    [expected] = in_json.pop("outputs")
    assert np.frombuffer(binary, "<f8").tolist() == expected.pop("data")
    assert output == expected | {"parameters": {"binary_data_size": 20 * 2 * 8}}
    assert answer == in_json


async def test_input_and_output_may_differ_in_form(client: httpx.AsyncClient) -> None:
    expected = (await client.post(f"{MODEL}/infer", json=body(ROWS[:2]))).json()
    content, headers = binary_body(ROWS[:2], binary_data=False)
    response = await client.post(f"{MODEL}/infer", content=content, headers=headers)
    assert (response.headers["content-type"], response.json()) == ("application/json", expected)

    classified = {"outputs": [{"name": "probabilidades", "parameters": {"classification": 1, "binary_data": True}}]}
    answer, binary = parts(await client.post(f"{MODEL}/infer", json=body(ROWS[:1]) | classified))
    assert answer["outputs"][0]["shape"] == [1, 1]
    best = max(range(2), key=expected["outputs"][0]["data"].__getitem__)
    text = f"{expected['outputs'][0]['data'][best]}:{best}:{PacienteDePrueba.disease.classes[best]}".encode()
    assert binary == len(text).to_bytes(4, "little") + text


async def test_a_thousand_rows_in_one_request(client: httpx.AsyncClient, inference: Inference) -> None:
    answer = InferResponse.model_validate_json((await client.post(f"{MODEL}/infer", json=body(ROWS))).content)
    assert answer.outputs[0].shape == [1000, 2]
    assert answer.outputs[0].numbers[-2:] == (await inference.scorer.score(ROWS[-1])).probabilities


async def test_a_body_may_be_larger_than_elsewhere_but_not_without_limit(client: httpx.AsyncClient) -> None:
    spaces = b" " * LARGEST_BODY
    content = httpx.Request("POST", "http://localhost", json=body(ROWS[:1])).content
    assert (await client.post(f"{MODEL}/infer", content=content + spaces)).status_code == 200

    async def in_chunks() -> AsyncIterator[bytes]:
        yield content
        for _ in range(8):
            yield spaces

    for too_much in (content + spaces * 8, in_chunks()):
        refused = await client.post(f"{MODEL}/infer", content=too_much)
        assert refused.status_code == 413
        assert ErrorBody.model_validate_json(refused.content).error


@pytest.mark.parametrize("path", [f"{MODEL}/infer", f"{MODEL}/versions/7/infer"])
async def test_a_compressed_body_gives_the_same_answer(client: httpx.AsyncClient, path: str) -> None:
    plain = await client.post(path, json=body(ROWS))
    content = b"\xef\xbb\xbf" + json.dumps(body(ROWS)).encode()
    for coding, sent in {
        "gzip": gzip.compress(content),
        "deflate": zlib.compress(content),
        "identity": content,
    }.items():
        response = await client.post(path, content=sent, headers={"Content-Encoding": coding})
        assert (response.status_code, response.content) == (200, plain.content), coding


@pytest.mark.parametrize(
    ("coding", "sent", "status", "error"),
    [
        ("br", b"{}", 415, "Content-Encoding: send the body as it is, or compressed once with gzip or deflate"),
        ("gzip", b"{}", 400, "the body is not compressed as its Content-Encoding states, or was cut off"),
        ("gzip", gzip.compress(bytes(32 * 4 * 10_000 + 1)), 413, "the body has more than 1280000 bytes"),
    ],
)
async def test_a_body_not_in_its_coding_is_an_error_of_the_protocol(
    client: httpx.AsyncClient, coding: str, sent: bytes, status: int, error: str
) -> None:
    response = await client.post(f"{MODEL}/infer", content=sent, headers={"Content-Encoding": coding})
    assert response.status_code == status
    assert ErrorBody.model_validate_json(response.content).error.startswith(error)


async def test_a_body_that_does_not_arrive_in_time_is_408(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.inference.api.routes.BODY_SECONDS", 0.05)

    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    response = await client.post(f"{MODEL}/infer", content=endless())
    assert response.status_code == 408
    assert ErrorBody.model_validate_json(response.content).error == "the body took more than 0.05 s"


async def test_metadata_have_all_that_a_gateway_needs(client: httpx.AsyncClient, inference: Inference) -> None:
    response = await client.get(MODEL)
    assert response.json() == (await client.get(f"{MODEL}/versions/7")).json()
    metadata = ModelMetadata.model_validate_json(response.content)
    assert (metadata.platform, metadata.versions) == ("onnx_onnxv1", ["7"])
    assert (metadata.inputs[0].shape, metadata.outputs[0].shape) == ([-1, 4], [-1, 2])
    assert metadata.facts == (await inference.scorer.score(ROWS[0])).model


async def test_the_card_of_the_version_that_serves(tmp_path: Path, empty_client: httpx.AsyncClient) -> None:
    assert (await empty_client.get(f"{MODEL}/card")).status_code == 503
    make_bundle(tmp_path, PacienteDePrueba, version="8", card="<p>ficha más</p>".encode())
    other = CollectorRegistry()
    async with opened(tmp_path, other) as inference, client_of(inference, other) as client:
        response = await client.get(f"{MODEL}/card")
        assert (response.status_code, response.text) == (200, "<p>ficha más</p>")
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert await inference.cards.card() == response.content
        assert (await client.get("/v2/models/otro/card")).status_code == 404


async def test_a_version_without_a_card_returns_404(client: httpx.AsyncClient, inference: Inference) -> None:
    missing = await client.get(f"{MODEL}/card")
    assert (missing.status_code, missing.json()) == (404, {"error": "this version has no model card"})
    assert await inference.cards.card() is None


async def test_server_metadata_and_health(client: httpx.AsyncClient) -> None:
    server = (await client.get("/v2")).json()
    assert server == {"name": "predecir", "version": "2", "extensions": EXTENSIONS}
    for path, body in {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"live": True, "ready": True},
        f"{MODEL}/ready": {"name": "prueba", "ready": True},
        f"{MODEL}/versions/7/ready": {"name": "prueba", "ready": True},
    }.items():
        response = await client.get(path)
        assert (response.status_code, response.json()) == (200, body)
    assert (await client.get("/health/ready")).status_code == 200


@pytest.mark.parametrize("path", ["", "/versions/7", "/ready", "/versions/7/ready"])
async def test_without_a_model_every_question_about_it_is_503_with_the_reason(
    empty_client: httpx.AsyncClient, path: str
) -> None:
    response = await empty_client.get(MODEL + path)
    assert response.status_code == 503
    assert "train a model first" in ErrorBody.model_validate_json(response.content).error


async def test_without_a_model_it_lives_but_is_not_ready_and_infers_nothing(empty_client: httpx.AsyncClient) -> None:
    assert (await empty_client.get("/v2/health/live")).status_code == 200
    assert (await empty_client.get("/v2/health/ready")).json()["ready"] is False
    assert (await empty_client.get("/health/live")).status_code == 200
    ready = await empty_client.get("/health/ready")
    assert (ready.status_code, list(ready.json()["motivos"])) == (503, ["modelo"])
    refused = await empty_client.post(f"{MODEL}/infer", json=body(ROWS[:1]))
    assert refused.status_code == 503
    assert "train a model first" in ErrorBody.model_validate_json(refused.content).error


@pytest.mark.parametrize("path", ["/v2/models/otro", "/v2/models/otro/ready", f"{MODEL}/versions/8"])
async def test_an_unknown_model_or_version_is_404(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert "prueba" in ErrorBody.model_validate_json(response.content).error


@pytest.mark.parametrize("path", ["/v2/models/otro/infer", f"{MODEL}/versions/8/infer"])
async def test_an_unknown_model_or_version_infers_nothing(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(path, json=body(ROWS[:1]))
    assert response.status_code == 404
    assert ErrorBody.model_validate_json(response.content).error


@pytest.mark.parametrize(
    "changes", [{"shape": [1, 5]}, {"datatype": "BYTES"}, {"data": ["x"] * 4}, {"data": [1e39, 0, 0, 0]}, {"name": "x"}]
)
async def test_what_is_not_understood_is_400(client: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    response = await client.post(f"{MODEL}/infer", json=body(ROWS[:1], **changes))
    assert response.status_code == 400
    assert ErrorBody.model_validate_json(response.content).error


async def test_rows_of_another_patient_class_are_503(client: httpx.AsyncClient) -> None:
    response = await client.post(
        f"{MODEL}/infer", json=body(ROWS[:1]) | {"parameters": {"patient_digest": RevisedThyroid.digest}}
    )
    assert response.status_code == 503
    assert response.json() == {"error": "the model here is of another patient class"}


async def test_more_rows_than_allowed_is_400(client: httpx.AsyncClient) -> None:
    request = body([], shape=[10_001, 4], data=[0] * 40_004)
    response = await client.post(f"{MODEL}/infer", json=request)
    assert (response.status_code, "10000" in response.json()["error"]) == (400, True)


async def test_metrics_count_rows_and_calls(client: httpx.AsyncClient) -> None:
    await client.post(f"{MODEL}/infer", json=body(ROWS[:20]))
    lines = (await client.get("/metrics")).text.splitlines()
    assert "inference_batch_rows_sum 20.0" in lines
    assert "inference_batch_rows_count 1.0" in lines


async def test_the_folder_can_be_chosen(tmp_path: Path, registry: CollectorRegistry) -> None:
    older = make_bundle(tmp_path, PacienteDePrueba, version="1")
    point_production(make_bundle(tmp_path, PacienteDePrueba, version="2"))
    settings = InferenceSettings(PREDECIR_VAR=tmp_path, inference_bundle=older)
    async with open_inference(settings, registry, PacienteDePrueba) as inference:
        assert (await inference.scorer.score(ROWS[0])).model.version == "1"


async def asked_both_ways(
    inference: Inference, path: str, content: bytes, headers: dict[str, str] | None = None
) -> tuple[httpx.Response, httpx.Response]:
    """Return the responses of the framework's route and of the host's hot route to the same request."""
    app = http_app("test", inference.part, registry=CollectorRegistry())
    answers: list[httpx.Response] = []
    for served in ({}, inference.part.hot):
        transport = httpx.ASGITransport(
            EdgeMiddleware(app, served, "localhost", edge_of(app).rejections), raise_app_exceptions=False
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers.append(await client.post(path, content=content, headers=headers))
    return answers[0], answers[1]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (json.dumps(body(ROWS[:3])).encode(), {}, 200),
        (*binary_body(ROWS[:3]), 200),
        (b"{", {}, 400),
        (b" " * 2_000_000, {}, 413),
    ],
    ids=["understood", "binary", "not JSON", "too large"],
)
async def test_the_documented_route_and_the_hot_one_are_the_same(
    inference: Inference, content: bytes, headers: dict[str, str], status: int
) -> None:
    documented, hot = await asked_both_ways(inference, f"{MODEL}/infer", content, headers)
    assert documented.status_code == hot.status_code == status
    assert documented.content == hot.content
    assert dict(documented.headers) == dict(hot.headers)
    assert hot.headers["cache-control"] == "no-store"


async def test_without_a_model_both_endpoints_report_it(tmp_path: Path, registry: CollectorRegistry) -> None:
    async with opened(tmp_path, registry) as inference:
        documented, hot = await asked_both_ways(inference, f"{MODEL}/infer", b"{}")
    assert documented.status_code == hot.status_code == 503
    assert documented.content == hot.content


FOREIGN = {"Host": "example.org"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v2/models/prueba/stats", {}, 404),
        ("POST", "/v2/repository/index", {}, 404),
        ("GET", "/v2/nothing", {}, 404),
        ("DELETE", "/v2/models/prueba", {}, 405),
        ("GET", f"{MODEL}/infer", {}, 405),
        ("POST", f"{MODEL}/infer", FOREIGN, 403),
        ("GET", "/v2", FOREIGN, 403),
    ],
)
async def test_every_error_under_v2_has_the_error_body_of_the_protocol(
    inference: Inference, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    app = edge_app(http_app("test", inference.part, registry=CollectorRegistry()), "localhost")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.request(method, path, headers=headers)
        assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
        assert response.json().keys() == {"error"}
        assert response.json()["error"].isascii()
        assert ("allow" in response.headers) is (status == 405)
        elsewhere = await client.get("/v2nothing")
        assert (elsewhere.status_code, elsewhere.headers["content-type"]) == (404, "application/problem+json")


async def test_rejected_keys_have_the_error_body_of_the_protocol(inference: Inference, tmp_path: Path) -> None:
    path = tmp_path / "access.json"
    key, _ = create(path, Role.MEDICO)
    app = edge_app(
        http_app("test", inference.part, registry=CollectorRegistry()), "localhost", ApiKeyStore(path), RateLimit(1, 1)
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {key}"}, 403), ({"Host": "localhost:a"}, 400)):
            response = await client.post(f"{MODEL}/infer", json=body(ROWS[:1]), headers=headers)
            assert response.status_code == status
            assert ErrorBody.model_validate_json(response.content).error.isascii()
            assert ("www-authenticate" in response.headers) is (status == 401)


async def test_a_defect_under_v2_has_the_error_body_of_the_protocol() -> None:
    router = Router(prefix="/v2")

    @router.get("/breaks")
    async def breaks() -> Response:
        raise RuntimeError("Juana")

    async def breaks_hot(_: Scope, __: Receive) -> Response:
        raise RuntimeError("Juana")

    hot = {("POST", "/v2/breaks"): hot_app(breaks_hot)}
    part = Part((router,), dict, hot, translations={"/v2": translated})
    transport = httpx.ASGITransport(edge_app(http_app("test", part, registry=CollectorRegistry()), "localhost"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for response in [await client.get("/v2/breaks"), await client.post("/v2/breaks")]:
            assert (response.status_code, response.json()) == (500, {"error": "unexpected error; there is no result"})


async def test_an_unexpected_error_is_a_500_and_one_log_line() -> None:
    async def breaks(_: Scope, __: Receive) -> Response:
        raise RuntimeError("Juana")

    hot = {("POST", "/"): hot_app(breaks)}
    app = EdgeMiddleware(FastAPI(), hot, "localhost", Rejections(CollectorRegistry()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        with capture_logs() as logs:
            response = await client.post("/")
    assert response.status_code == 500
    assert "Juana" not in response.text
    [line] = logs
    assert line["error"].startswith("RuntimeError at test_inference_rest.py:")
