"""The gateway's client of inference against the real service, while replicas serve different versions."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.gateway.api.model_versions import MOST, VersionCounter, versions_router
from services.gateway.inference_client import KNOWN_MODELS, MOST_WAITING, RemoteScorer, open_remote_scorer
from services.inference.app import open_inference
from services.inference.settings import InferenceSettings
from shared.contracts.open_inference import OUTPUT, describe
from shared.contracts.scoring import ModelUnavailableError, Scorer
from shared.web.hosting import Part, http_app
from tests.support.bundles import PacienteDePrueba, make_bundle, random_rows
from tests.support.doubles import MODEL, Adding
from tests.support.waiting import until

ROWS = random_rows(PacienteDePrueba, 40, seed=9)
CLASSES = PacienteDePrueba.disease.classes
FACTS = MODEL.model_copy(
    update={
        "name": PacienteDePrueba.disease.name,
        "patient_digest": PacienteDePrueba.digest,
        "columns": PacienteDePrueba.columns,
        "classes": CLASSES,
        "prevalence": dict.fromkeys(CLASSES, 0.5),
        "training_ranges": {},
        "never_missing": ("edad",),
    }
)
METADATA: dict[str, Any] = describe(FACTS, "onnx_onnxv1").model_dump(mode="json")


@asynccontextmanager
async def balanced(
    folder: Path, versions: int, cards: Mapping[str, bytes] | None = None
) -> AsyncIterator[tuple[RemoteScorer, dict[str, Scorer]]]:
    """Run a replica for each version, and a client whose requests go to the replicas in turn."""
    replicas: dict[str, Scorer] = {}
    clients: list[httpx.AsyncClient] = []
    async with AsyncExitStack() as stack:
        for version in map(str, range(1, versions + 1)):
            card = (cards or {}).get(version)
            make_bundle(folder / version, PacienteDePrueba, version=version, seed=int(version) % 2, card=card)
            settings = InferenceSettings(PREDECIR_VAR=folder / version)
            inference = await stack.enter_async_context(open_inference(settings, CollectorRegistry(), PacienteDePrueba))
            app = http_app("test", inference.part, registry=CollectorRegistry())
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
            clients.append(await stack.enter_async_context(client))
            replicas[version] = inference.scorer
        turns = cycle(clients)

        async def forward(request: web.Request) -> web.Response:
            answer = await next(turns).request(request.method, request.path, content=await request.read())
            return web.Response(status=answer.status_code, body=answer.content)

        front = web.Application()
        front.router.add_route("*", "/{path:.*}", forward)
        server = TestServer(front)
        await server.start_server()
        stack.push_async_callback(server.close)
        yield (
            await stack.enter_async_context(
                open_remote_scorer(str(server.make_url("/")), PacienteDePrueba, key=None, deadline=30)
            ),
            replicas,
        )


@pytest.mark.parametrize("versions", [2, KNOWN_MODELS + 2])
async def test_every_score_names_the_version_of_the_replica_that_computed_it(tmp_path: Path, versions: int) -> None:
    async with balanced(tmp_path, versions) as (scorer, replicas):
        scores = [(row, await scorer.score(row)) for row in ROWS]
        assert {score.model.version for _, score in scores} == set(replicas)
        for row, score in scores:
            computed = await replicas[score.model.version].score(row)
            assert (score.probabilities, score.model) == (computed.probabilities, computed.model)


async def test_the_recent_versions_are_listed_in_one_place(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    async with balanced(tmp_path, 2) as (scorer, _):
        versions = VersionCounter(scorer, registry)
        models = [(await versions.score(row)).model for row in ROWS]
        app = http_app("test", Part((versions_router(versions),), dict), registry=registry)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            seen = (await client.get("/modelos")).json()["modelos"]
    counts = Counter((model.version, model.digest) for model in models)
    assert {(each["version"], each["digest"]): each["calculos"] for each in seen} == counts
    assert seen[0]["version"] == models[-1].version
    labels = {"name": "prueba", "version": "1", "digest": next(m.digest for m in models if m.version == "1")}
    assert registry.get_sample_value("predecir_model_scores_total", labels) == counts["1", labels["digest"]]


async def test_of_too_many_versions_the_one_that_scored_longest_ago_is_forgotten() -> None:
    scorer = Adding({})
    registry = CollectorRegistry()
    versions = VersionCounter(scorer, registry)
    for number in [*range(MOST), 0, MOST]:
        scorer.model = MODEL.model_copy(update={"version": str(number), "digest": f"{number:064}"})
        await versions.score([0.0] * len(MODEL.columns))
    listed = {model.version: model.calculos for model in versions.recent().modelos}
    assert listed == {"0": 2} | {str(number): 1 for number in range(2, MOST + 1)}
    [scores] = [metric for metric in registry.collect() if metric.name == "predecir_model_scores"]
    counted = {s.labels["version"]: s.value for s in scores.samples if s.name.endswith("_total")}
    assert counted == listed


async def test_the_card_is_that_of_a_version_which_serves_or_none(tmp_path: Path) -> None:
    async with balanced(tmp_path, 2, {"1": b"card of 1"}) as (scorer, _):
        found = {await scorer.card() for _ in range(6)}
    assert found == {b"card of 1", None}


async def test_an_inference_service_that_is_away_is_not_a_model_without_a_card(tmp_path: Path) -> None:
    async with balanced(tmp_path, 0) as (scorer, _):
        with pytest.raises(ModelUnavailableError, match="inference answered 500"):
            await scorer.card()


@asynccontextmanager
async def foreign(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[RemoteScorer]:
    """Run a server that answers every request by `answer`, and a client of it."""
    front = web.Application()
    front.router.add_route("*", "/{path:.*}", answer)
    async with (
        TestServer(front) as server,
        open_remote_scorer(str(server.make_url("/")), PacienteDePrueba, key=None, deadline=60) as scorer,
    ):
        yield scorer


async def refusal(scorer: RemoteScorer) -> str:
    """Return why `scorer` has no score."""
    with pytest.raises(ModelUnavailableError) as refused:
        await scorer.score(ROWS[0])
    return str(refused.value)


def scored(count: int, model: dict[str, Any] | None) -> dict[str, Any]:
    """Return the answer to infer for `count` rows, which describes its version by `model`."""
    shape = [count, len(CLASSES)]
    return {
        "model_name": FACTS.name,
        "model_version": FACTS.version,
        "parameters": {"digest": FACTS.digest, "model": model},
        "outputs": [{"name": OUTPUT, "shape": shape, "datatype": "FP64", "data": [0.25, 0.75] * count}],
    }


async def test_a_foreign_servers_error_text_is_not_repeated() -> None:
    async def quote(request: web.Request) -> web.Response:
        return web.json_response({"error": f"cannot read {await request.text()}"}, status=400)

    async with foreign(quote) as scorer:
        assert await refusal(scorer) == "inference answered 400"


SEE = "see docs/reference/inference.md"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            {},
            "an answer of inference: without model_name, model_version, parameters, outputs; " + SEE,
        ),
        ("777", "an answer of inference: without a JSON object; " + SEE),
        (
            scored(1, METADATA) | {"parameters": {}, "model_version": 7},
            "an answer of inference: without parameters.digest and with a wrong model_version; " + SEE,
        ),
        (scored(1, METADATA) | {"outputs": []}, "an answer of inference: 0 outputs instead of one"),
        (
            scored(1, METADATA) | {"outputs": [scored(1, None)["outputs"][0] | {"name": "predict"}]},
            "an answer of inference: without the output probabilidades; " + SEE,
        ),
        (
            scored(1, METADATA) | {"outputs": [scored(1, None)["outputs"][0] | {"data": ["0.25", "0.75"]}]},
            "an answer of inference: without numbers in probabilidades; " + SEE,
        ),
        (
            scored(1, METADATA | {"versions": []}),
            "the metadata of inference: without a version in versions; " + SEE,
        ),
        (scored(2, METADATA), "inference answered with another shape than requested"),
        (
            scored(1, METADATA) | {"outputs": [scored(1, METADATA)["outputs"][0] | {"shape": [2, 1]}]},
            "inference answered with another shape than requested",
        ),
        (
            scored(1, METADATA | {"parameters": METADATA["parameters"] | {"digest": "e" * 64}}),
            "inference no longer describes version 7",
        ),
        (
            scored(1, METADATA | {"parameters": METADATA["parameters"] | {"patient_digest": "p" * 64}}),
            "inference serves a model of another patient class",
        ),
    ],
)
async def test_an_answer_that_cannot_be_used_is_no_score(answer: object, reason: str) -> None:
    async def send(_: web.Request) -> web.Response:
        return web.json_response(answer)

    async with foreign(send) as scorer:
        assert await refusal(scorer) == reason


@pytest.mark.parametrize("status", [401, 403])
async def test_a_rejected_key_names_its_setting_and_role(status: int) -> None:
    async def reject(_: web.Request) -> web.Response:
        return web.Response(status=status)

    reason = "inference rejects INFERENCE_KEY; it needs a key of servicio"
    with capture_logs() as logs:
        async with foreign(reject) as scorer:
            assert await refusal(scorer) == reason
            await until(lambda: scorer.unavailable() == reason)
    assert logs == [{"event": "inference_unavailable", "log_level": "warning", "reason": reason}]


async def test_a_redirect_of_rows_is_not_followed() -> None:
    requested: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        requested.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with foreign(redirect) as scorer:
        assert await refusal(scorer) == "inference answered 307, a redirect, which is not followed"
    assert "/elsewhere" not in requested


async def test_a_version_that_the_answer_does_not_describe_is_described_once() -> None:
    described: list[str] = []

    async def send(request: web.Request) -> web.Response:
        if request.path.endswith("/ready"):
            return web.json_response({"error": "starts"}, status=503)
        if request.method == "POST":
            return web.json_response(scored(1, None))
        described.append(request.path)
        return web.json_response(METADATA)

    async with foreign(send) as scorer:
        scores = [await scorer.score(row) for row in ROWS[:3]]
    assert [(score.probabilities, score.model) for score in scores] == [([0.25, 0.75], FACTS)] * 3
    assert described == ["/v2/models/prueba/versions/7"]


class Foreign:
    """Another V2 server: its metadata, and its answer for one row. It counts the requests of each path."""

    def __init__(self, metadata: object, answer: object) -> None:
        self.metadata, self.answer = metadata, answer
        self.requests: Counter[str] = Counter()
        self.rows: list[list[float | None]] = []

    async def respond(self, request: web.Request) -> web.Response:
        name = request.path.removeprefix("/v2/models/prueba")
        self.requests[name] += 1
        if name == "/ready":
            return web.Response()
        if name == "":
            return web.json_response(self.metadata)
        self.rows.append((await request.json())["inputs"][0]["data"][0])
        if isinstance(self.answer, str):
            return web.json_response({"error": self.answer}, status=400)
        return web.json_response(self.answer)


def without(*names: str) -> dict[str, Any]:
    """Return the metadata without these parameters."""
    return METADATA | {"parameters": {k: v for k, v in METADATA["parameters"].items() if k not in names}}


def with_parameters(**changes: object) -> dict[str, Any]:
    return METADATA | {"parameters": METADATA["parameters"] | changes}


BARE = {"name": "prueba", "versions": [], "platform": "", "inputs": [], "outputs": [], "parameters": {}}
"""The metadata of a model of MLServer 1.7.1 that declares nothing."""


@pytest.mark.parametrize(
    ("metadata", "answer", "reason"),
    [
        (
            BARE,
            scored(1, None),
            "the metadata of inference: without parameters.digest, parameters.patient_digest, parameters.columns, "
            "parameters.classes, parameters.prevalence, parameters.low_prevalence, parameters.training_ranges, "
            "parameters.never_missing; " + SEE,
        ),
        ([], scored(1, None), "the metadata of inference: without a JSON object; " + SEE),
        (
            without("classes") | {"versions": "7"},
            scored(1, None),
            "the metadata of inference: without parameters.classes and with a wrong versions; " + SEE,
        ),
        (
            METADATA | {"versions": []},
            scored(1, None),
            "the metadata of inference: without a version in versions; " + SEE,
        ),
        (METADATA | {"inputs": []}, scored(1, None), "the metadata of inference: without inputs.paciente; " + SEE),
        (
            METADATA | {"outputs": [{"name": "probabilidades", "datatype": "FP64", "shape": [-1, 3]}]},
            scored(1, None),
            "the metadata of inference: outputs.probabilidades has another shape than [-1, 2]; " + SEE,
        ),
        (
            with_parameters(columns=list(reversed(FACTS.columns)), classes=["a", "b"]),
            scored(1, None),
            "the metadata of inference: parameters.columns, parameters.classes, parameters.prevalence do not fit the "
            "patient class; " + SEE,
        ),
        (
            with_parameters(training_ranges={"x": [0, 1]}, never_missing=["x"]),
            scored(1, None),
            "the metadata of inference: parameters.training_ranges, parameters.never_missing do not fit the patient "
            "class; " + SEE,
        ),
        (
            with_parameters(patient_digest="p" * 64),
            scored(1, None),
            "inference serves a model of another patient class",
        ),
        (
            METADATA,
            {name: part for name, part in scored(1, None).items() if name != "parameters"},
            "an answer of inference: without parameters; " + SEE,
        ),
        (METADATA, "cannot read null", "inference answered 400: cannot read null"),
    ],
)
async def test_readiness_names_what_another_server_lacks(metadata: object, answer: object, reason: str) -> None:
    async with foreign(Foreign(metadata, answer).respond) as scorer:
        await until(lambda: scorer.unavailable() != "inference has not been reached yet")
        assert scorer.unavailable() == reason


async def test_a_server_is_verified_until_it_is_right_and_then_once() -> None:
    server = Foreign(BARE, scored(1, None))
    async with foreign(server.respond) as scorer:
        await until(lambda: scorer.unavailable() != "inference has not been reached yet")
        assert (scorer.unavailable() or "").startswith("the metadata of inference: without")
        server.metadata = METADATA
        await until(lambda: scorer.unavailable() is None)
        assert (server.requests[""], server.requests["/infer"]) == (2, 1)
        await until(lambda: server.requests["/ready"] >= 4)
        assert (server.requests[""], server.requests["/infer"]) == (2, 1)
        assert server.rows == [[0, None, None, None]]  # the model knows no case without an age

        server.answer = {}
        assert (await refusal(scorer)).startswith("an answer of inference: without")
        await until(lambda: (scorer.unavailable() or "").startswith("an answer of inference: without"))
        server.answer = scored(1, None)
        await until(lambda: scorer.unavailable() is None)


async def test_above_the_most_that_wait_a_row_is_rejected_at_once() -> None:
    async def send(request: web.Request) -> web.Response:
        [rows] = (await request.json())["inputs"]
        return web.json_response(scored(rows["shape"][0], METADATA))

    async with foreign(send) as scorer:
        results = await asyncio.gather(
            *(scorer.score(ROWS[0]) for _ in range(MOST_WAITING + 1)), return_exceptions=True
        )
    *_, last = results
    assert str(last) == f"more than {MOST_WAITING} patients wait for inference already"
    assert sum(isinstance(result, ModelUnavailableError) for result in results) == 1
