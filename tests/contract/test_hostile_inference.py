"""A compromised inference service: endless, slow, redirected or wrong answers are a 503, and memory stays flat."""

import asyncio
import json
import math
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError
from structlog.testing import capture_logs

from services.gateway.inference_client import LARGEST_CARD, LARGEST_DESCRIPTION, open_remote_scorer
from shared.contracts.open_inference import OUTPUT, InferRequest, InferResponse, ModelMetadata, describe
from tests.support.bundles import PacienteDePrueba
from tests.support.doubles import MODEL
from tests.support.gateway import PROBLEM, Client, gateway
from tests.support.waiting import until

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

CLASSES = PacienteDePrueba.disease.classes
FACTS = MODEL.model_copy(
    update={
        "name": PacienteDePrueba.disease.name,
        "patient_digest": PacienteDePrueba.digest,
        "columns": PacienteDePrueba.columns,
        "classes": CLASSES,
        "prevalence": dict.fromkeys(CLASSES, 0.5),
        "training_ranges": {},
        "never_missing": (),
    }
)
METADATA: dict[str, Any] = describe(FACTS, "onnx_onnxv1").model_dump(mode="json")
PATIENT = {"edad": 47}
MIB = 1024 * 1024
FAR_ABOVE = 64 * MIB
"""Bytes that a hostile answer has if it is read to its end: 16 times our largest bound."""
ROUTES = {
    "prediction": ("/infer", LARGEST_DESCRIPTION),
    "explanation": ("/infer", LARGEST_DESCRIPTION),
    "readiness": ("/ready", LARGEST_DESCRIPTION),
    "metadata": ("", LARGEST_DESCRIPTION),
    "card": ("/card", LARGEST_CARD),
}


class Inference:
    """An inference service that is right but for `path` below the model, which `hostile` answers, once it is set."""

    def __init__(self) -> None:
        self.path = ""
        self.hostile: Answer | None = None
        self.requests: list[web.Request] = []

    async def respond(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        path = request.path.removeprefix("/v2/models/prueba")
        if self.hostile is not None and path == self.path:
            return await self.hostile(request)
        if path == "/infer":
            [tensor] = (await request.json())["inputs"]
            return web.json_response(scored(tensor["shape"][0]))
        if path == "/card":
            return web.Response(text="<p>card</p>", content_type="text/html")
        return web.json_response(METADATA)


def scored(count: int, data: list[float] | None = None) -> dict[str, Any]:
    data = [0.25, 0.75] * count if data is None else data
    return {
        "model_name": FACTS.name,
        "model_version": FACTS.version,
        "parameters": {"digest": FACTS.digest, "model": METADATA},
        "outputs": [{"name": OUTPUT, "shape": [count, len(CLASSES)], "datatype": "FP64", "data": data}],
    }


@asynccontextmanager
async def served_by(inference: Inference, folder: Path, *, deadline: float = 30) -> AsyncIterator[Client]:
    """Run `inference` and a gateway of it; yield the gateway's client once the gateway is ready."""
    front = web.Application()
    front.router.add_route("*", "/{path:.*}", inference.respond)
    async with (
        TestServer(front) as server,
        open_remote_scorer(str(server.make_url("/")), PacienteDePrueba, key=None, deadline=deadline) as scorer,
        gateway(folder, scorer=scorer, cards=scorer, patient=PacienteDePrueba) as client,
    ):
        await until(lambda: scorer.unavailable() is None)
        yield client


async def answered(client: Client, route: str) -> httpx.Response:
    if route == "card":
        return await client.get("/modelo/ficha")
    if route == "explanation":
        return await client.post("/explicar", json=PATIENT)
    return await client.predict(PATIENT)


async def refused(inference: Inference, folder: Path, route: str, hostile: Answer, *, deadline: float = 30) -> str:
    """Return the logged reason of the 503 of `route` while `hostile` answers what that route needs."""
    inference.path = ROUTES[route][0]
    with capture_logs() as logs:
        async with served_by(inference, folder, deadline=deadline) as client:
            inference.hostile = hostile
            if route in {"readiness", "metadata"}:
                return await unready(inference, client, logs)
            response = await answered(client, route)
    assert (response.status_code, response.headers["Content-Type"]) == (503, PROBLEM)
    assert response.json()["type"] == "urn:predecir:problema:modelo"
    [line] = [line for line in logs if line["event"] == "request_rejected"]
    return str(line["reason"])


async def unready(inference: Inference, client: Client, logs: Any) -> str:  # noqa: ANN401 - structlog's list
    """Return why the gateway is not ready any more; a wrong score makes it read the metadata again."""
    hostile = inference.hostile
    if inference.path == "":
        inference.path, inference.hostile = "/infer", wrong_score
        await client.predict(PATIENT)
        inference.path, inference.hostile = "", hostile
    await until(lambda: any(line["event"] == "inference_unavailable" for line in logs))
    [reason] = {line["reason"] for line in logs if line["event"] == "inference_unavailable"}
    return str(reason)


async def wrong_score(request: web.Request) -> web.StreamResponse:
    del request
    return web.json_response({})


def media_type(route: str) -> str:
    return "text/html" if route == "card" else "application/json"


class Endless:
    """Streams `FAR_ABOVE` bytes unless the client leaves, and counts them."""

    def __init__(self, route: str, *, status: int = 200, announced: bool = False) -> None:
        self._status, self._announced, self._type = status, announced, media_type(route)
        self.sent = 0
        self.left = False

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=self._status, headers={"Content-Type": self._type})
        response.content_length = FAR_ABOVE if self._announced else None
        await response.prepare(request)
        try:
            while self.sent < FAR_ABOVE:
                await response.write(b" " * 64 * 1024)
                self.sent += 64 * 1024
        except ConnectionError:
            self.left = True
        return response


@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize("route", ROUTES)
async def test_an_endless_answer_is_cut_off_and_memory_stays_flat(tmp_path: Path, route: str, announced: bool) -> None:  # noqa: FBT001
    endless, most = Endless(route, announced=announced), ROUTES[route][1]
    tracemalloc.start()
    try:
        reason = await refused(Inference(), tmp_path, route, endless)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reason.startswith("an answer of inference: of more than ")
    assert endless.sent < most + 16 * MIB  # what the sockets' buffers take
    assert peak < 4 * most + 16 * MIB


@pytest.mark.parametrize("status", [404, 500])
async def test_an_endless_error_page_is_cut_off(tmp_path: Path, status: int) -> None:
    endless = Endless("prediction", status=status)
    assert (await refused(Inference(), tmp_path, "prediction", endless)).startswith(f"inference answered {status}")
    assert endless.sent < 16 * MIB


@pytest.mark.parametrize("route", ["prediction", "metadata", "card"])
async def test_an_answer_with_a_content_coding_is_not_inflated(tmp_path: Path, route: str) -> None:
    async def compressed(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=json.dumps(scored(1)).encode(), content_type=media_type(route))
        response.enable_compression(web.ContentCoding.gzip)
        coding = request.headers["Accept-Encoding"]
        assert coding == "identity"
        return response

    reason = await refused(Inference(), tmp_path, route, compressed)
    assert reason.startswith("an answer of inference: with a Content-Encoding, which was not requested")


@pytest.mark.parametrize("route", ["prediction", "metadata", "card"])
async def test_an_answer_of_another_type_is_named_as_such(tmp_path: Path, route: str) -> None:
    async def plain(request: web.Request) -> web.StreamResponse:
        del request
        return web.Response(text=json.dumps(scored(1)), content_type="text/plain")

    reason = await refused(Inference(), tmp_path, route, plain)
    assert reason.startswith(f"an answer of inference: not of type {media_type(route)}; see")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -0.001, 1.001])
async def test_a_number_that_is_no_probability_is_no_answer(tmp_path: Path, number: float) -> None:
    async def wrong(request: web.Request) -> web.StreamResponse:
        [tensor] = (await request.json())["inputs"]
        return web.json_response(scored(tensor["shape"][0], [0.25, number] * tensor["shape"][0]))

    reason = await refused(Inference(), tmp_path, "prediction", wrong)
    assert reason.startswith(f"an answer of inference: {OUTPUT} has a number that is not between 0 and 1")


async def test_a_probability_that_single_precision_rounded_beyond_1_is_an_answer(tmp_path: Path) -> None:
    async def rounded(request: web.Request) -> web.StreamResponse:
        [tensor] = (await request.json())["inputs"]
        return web.json_response(scored(tensor["shape"][0], [-(2.0**-24), 1 + 2.0**-23] * tensor["shape"][0]))

    inference = Inference()
    inference.path = ROUTES["prediction"][0]
    async with served_by(inference, tmp_path) as client:
        inference.hostile = rounded
        response = await client.predict(PATIENT)
    assert (response.status_code, response.json()["prediccion"]) == (200, CLASSES[1])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"digest": "short"}, "parameters.digest"),
        ({"digest": "e" * 65}, "parameters.digest"),
        ({"prevalence": dict.fromkeys(CLASSES, math.nan)}, "parameters.prevalence"),
        ({"training_ranges": {"edad": [0, math.inf]}}, "parameters.training_ranges"),
        ({"training_ranges": {"edad": [2, 1]}}, "parameters.training_ranges"),
        ({"plausible_at": -1}, "parameters.plausible_at"),
    ],
)
async def test_facts_out_of_range_are_named(tmp_path: Path, change: dict[str, Any], name: str) -> None:
    async def changed(request: web.Request) -> web.StreamResponse:
        del request
        return web.json_response(METADATA | {"parameters": METADATA["parameters"] | change})

    reason = await refused(Inference(), tmp_path, "metadata", changed)
    assert reason.startswith(f"the metadata of inference: with a wrong {name}; see")


@pytest.mark.parametrize("version", ["", "v" * 65, "../card", "7\n8"])
async def test_a_version_becomes_no_address_event_or_label_unchecked(tmp_path: Path, version: str) -> None:
    async def renamed(request: web.Request) -> web.StreamResponse:
        [tensor] = (await request.json())["inputs"]
        answer = scored(tensor["shape"][0])
        return web.json_response(answer | {"model_version": version, "parameters": {"digest": "e" * 64}})

    inference = Inference()
    reason = await refused(inference, tmp_path, "prediction", renamed)
    assert reason.startswith("an answer of inference: with a wrong model_version")
    requested = {request.path.removeprefix("/v2/models/prueba") for request in inference.requests}
    assert requested <= {"", "/ready", "/infer"}


async def test_a_model_of_another_name_is_not_used(tmp_path: Path) -> None:
    async def renamed(request: web.Request) -> web.StreamResponse:
        del request
        return web.json_response(METADATA | {"name": "another"})

    assert await refused(Inference(), tmp_path, "metadata", renamed) == "inference serves a model of another name"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_patient_s_row_is_never_sent_to_another_address(tmp_path: Path, status: int) -> None:
    elsewhere: list[web.Request] = []

    async def take(request: web.Request) -> web.StreamResponse:
        elsewhere.append(request)
        return web.json_response(scored(1))

    other = web.Application()
    other.router.add_route("*", "/{path:.*}", take)
    async with TestServer(other) as server:

        async def redirect(request: web.Request) -> web.StreamResponse:
            del request
            return web.Response(status=status, headers={"Location": str(server.make_url("/"))})

        reason = await refused(Inference(), tmp_path, "prediction", redirect)
    assert reason == f"inference answered {status}, a redirect, which is not followed"
    assert elsewhere == []


@pytest.mark.parametrize("route", ["prediction", "card"])
async def test_an_answer_byte_by_byte_ends_at_the_deadline(tmp_path: Path, route: str) -> None:
    ended = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": media_type(route)})
        await response.prepare(request)
        while not ended.is_set():
            await response.write(b" ")
            await asyncio.sleep(0.01)
        return response

    reason = await refused(Inference(), tmp_path, route, slow, deadline=0.5)
    ended.set()
    assert reason == "inference cannot be reached (TimeoutError)"


async def test_cookies_of_inference_are_not_kept(tmp_path: Path) -> None:
    async def with_a_cookie(request: web.Request) -> web.StreamResponse:
        [tensor] = (await request.json())["inputs"]
        response = web.json_response(scored(tensor["shape"][0]))
        response.set_cookie("c", "v" * 1000)
        return response

    inference = Inference()
    async with served_by(inference, tmp_path) as client:
        inference.path, inference.hostile = "/infer", with_a_cookie
        for _ in range(2):
            assert (await client.predict(PATIENT)).status_code == httpx.codes.OK
    assert not [request for request in inference.requests if "Cookie" in request.headers]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (InferRequest, {"inputs": [{}] * 10_000}),
        (InferRequest, {"inputs": [], "outputs": [{}] * 10_000}),
        (InferResponse, scored(1) | {"outputs": [{}] * 10_000}),
        (InferResponse, scored(1) | {"outputs": [scored(1)["outputs"][0] | {"shape": [{}] * 10_000}]}),
        (InferResponse, scored(1) | {"outputs": [scored(1)["outputs"][0] | {"data": [{}] * 10_000}]}),
        (ModelMetadata, METADATA | {"versions": [{}] * 10_000}),
        (ModelMetadata, METADATA | {"inputs": [{}] * 10_000}),
        (ModelMetadata, METADATA | {"parameters": METADATA["parameters"] | {"columns": [{}] * 10_000}}),
    ],
)
def test_a_message_of_wrong_items_is_rejected_at_the_first(kind: type[InferRequest], message: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as rejected:
        kind.model_validate_json(json.dumps(message))
    assert rejected.value.error_count() <= 4
