"""The gateway's client of inference against the real service, while replicas serve different versions."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from services.gateway.api.model_versions import VersionCounter, versions_router
from services.gateway.inference_client import KNOWN_MODELS, RemoteScorer, open_remote_scorer
from services.inference.app import open_inference
from services.inference.settings import InferenceSettings
from shared.contracts.scoring import ModelUnavailableError, Scorer
from shared.web.hosting import Part, http_app
from tests.support.bundles import PacienteDePrueba, make_bundle, random_rows

ROWS = random_rows(PacienteDePrueba, 40, seed=9)


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


async def test_the_card_is_that_of_a_version_which_serves_or_none(tmp_path: Path) -> None:
    async with balanced(tmp_path, 2, {"1": b"card of 1"}) as (scorer, _):
        found = {await scorer.card() for _ in range(6)}
    assert found == {b"card of 1", None}


async def test_an_inference_service_that_is_away_is_not_a_model_without_a_card(tmp_path: Path) -> None:
    async with balanced(tmp_path, 0) as (scorer, _):
        with pytest.raises(ModelUnavailableError, match="inference answered 500"):
            await scorer.card()


async def test_a_foreign_servers_error_text_is_not_repeated() -> None:
    async def quote(request: web.Request) -> web.Response:
        return web.json_response({"error": f"cannot read {await request.text()}"}, status=400)

    front = web.Application()
    front.router.add_route("*", "/{path:.*}", quote)
    async with (
        TestServer(front) as server,
        open_remote_scorer(str(server.make_url("/")), PacienteDePrueba, key=None, deadline=60) as scorer,
    ):
        with pytest.raises(ModelUnavailableError) as refused:
            await scorer.score(ROWS[0])
    assert str(refused.value) == "inference answered 400"
