"""Every rejection of every kind is counted by rule and logged, with nothing of the request in the line."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.gateway.key_admin import create
from shared.web.api_keys import ApiKeyStore, Role
from shared.web.hosting import Part, edge_app, http_app
from shared.web.problems import ProblemError
from shared.web.rate_limit import RateLimit
from shared.web.rejections import Rejections
from shared.web.routing import Router
from tests.support.doubles import NoModel
from tests.support.gateway import HYPER, gateway
from tests.support.inference import running
from tests.support.waiting import until

VALUE = "Juana-470"
JSON = {"Content-Type": "application/json"}
KEYLESS: dict[str, tuple[int, str, str, str, dict[str, Any]]] = {
    "bad JSON": (400, "json_no_valido", "POST", "/predecir", {"content": f'{{"edad": "{VALUE}'.encode()}),
    "foreign host": (403, "host", "GET", "/health/live", {"headers": {"Host": f"{VALUE}.example"}}),
    "foreign origin": (403, "origin", "GET", "/health/live", {"headers": {"Origin": f"http://{VALUE}.example"}}),
    "unknown path": (404, "http_404", "GET", f"/{VALUE}", {}),
    "unknown file": (404, "http_404", "GET", f"/pagina/{VALUE}", {}),
    "wrong method": (405, "http_405", "DELETE", "/predecir", {}),
    "large body": (413, "tamano", "POST", "/predecir", {"content": b" " * (256 * 1024 + 1)}),
    "content type": (415, "tipo_de_contenido", "POST", "/explicar", {"headers": {"Content-Type": "text/plain"}}),
    "bad data": (422, "datos_no_validos", "POST", "/predecir", {"json": {**HYPER, "edad": VALUE}}),
    "bad parameter": (422, "parametros", "POST", f"/predicciones/{VALUE}/resultado", {"json": {}}),
    "no model": (503, "modelo", "POST", "/predecir", {"json": HYPER}),
    "no model to explain": (503, "modelo", "POST", "/explicar", {"json": HYPER}),
}


def counted(registry: CollectorRegistry) -> dict[str, float]:
    [counter] = [metric for metric in registry.collect() if metric.name == "predecir_refusals"]
    return {sample.labels["rule"]: sample.value for sample in counter.samples if sample.name.endswith("_total")}


def rejected(logs: list[MutableMapping[str, Any]]) -> Iterator[tuple[int, str]]:
    yield from ((line["status"], line["rule"]) for line in logs if line["event"] == "request_rejected")


@pytest.mark.parametrize("kind", KEYLESS)
async def test_a_rejection_is_counted_and_logged_once_by_its_rule(tmp_path: Path, kind: str) -> None:
    status, rule, method, path, options = KEYLESS[kind]
    headers = {**JSON, **options.get("headers", {})}
    async with gateway(tmp_path, scorer=NoModel()) as client:
        with capture_logs() as logs:
            response = await client.request(method, path, **{**options, "headers": headers})
        assert response.status_code == status
        assert counted(client.registry) == {rule: 1}
    assert list(rejected(logs)) == [(status, rule)]
    assert VALUE not in str(logs)


async def test_a_body_that_does_not_arrive_is_counted_as_408(tmp_path: Path) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with gateway(tmp_path, gateway_deadline_seconds=0.05) as client:
        with capture_logs() as logs:
            await client.post("/predecir", content=stalls(), headers=JSON)
        assert counted(client.registry) == {"cortada": 1}
    assert list(rejected(logs)) == [(408, "cortada")]


@asynccontextmanager
async def guarded(
    path: Path, limit: RateLimit | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, CollectorRegistry]]:
    """Serve one route for ops, with the keys at `path`."""
    router, registry = Router(), CollectorRegistry()

    @router.get("/things/{id}", roles={Role.OPS})
    async def thing() -> str:
        return "in"

    app = edge_app(http_app("test", Part((router,), dict), registry=registry), "localhost", ApiKeyStore(path), limit)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client, registry


async def ask(client: httpx.AsyncClient, key: str | None, path: str = f"/things/{VALUE}") -> int:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return (await client.get(path, headers=headers)).status_code


async def test_rejections_by_key_and_role_are_counted_and_logged(tmp_path: Path) -> None:
    path = tmp_path / "access.json"
    (ops, made_ops), (medico, made) = (create(path, role) for role in (Role.OPS, Role.MEDICO))
    async with guarded(path, RateLimit(0.001, 1)) as (client, registry):
        with capture_logs() as logs:
            statuses = [await ask(client, key) for key in (None, VALUE, medico, ops, ops)]
            statuses.append(await ask(client, ops, f"/{VALUE}"))
        assert statuses == [401, 401, 403, 200, 429, 404]
        assert counted(registry) == dict.fromkeys(["sin_clave", "clave_no_valida", "rol", "ritmo", "http_404"], 1)
    assert [(line["rule"], line.get("caller")) for line in logs] == [
        ("sin_clave", None),
        ("clave_no_valida", None),
        ("rol", made.id),
        ("ritmo", made_ops.id),
        ("http_404", made_ops.id),
    ]
    assert not any(secret in str(logs) for secret in (VALUE, ops, medico))


async def test_keys_that_cannot_be_read_are_counted_as_503(tmp_path: Path) -> None:
    path = tmp_path / "access.json"
    key, _ = create(path, Role.OPS)
    store = ApiKeyStore(path)
    path.write_text("[")
    registry = CollectorRegistry()
    app = edge_app(http_app("test", registry=registry), "localhost", store)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:

        async def rejects() -> bool:
            return await ask(client, key, "/metrics") == 503

        await until(rejects)
    assert counted(registry) == {"claves": 1}


PATHS: Mapping[str, tuple[int, str]] = {
    "/v2/models/prueba/infer": (503, "modelo"),
    f"/v2/models/{VALUE}/infer": (404, "modelo_desconocido"),
}


@pytest.mark.parametrize("path", PATHS)
async def test_the_protocol_of_inference_rejects_into_the_same_counter(tmp_path: Path, path: str) -> None:
    async with running(tmp_path) as inference:
        with capture_logs() as logs:
            response = await inference.client.post(path, json={})
        assert response.json().keys() == {"error"}
        assert counted(inference.registry) == {PATHS[path][1]: 1}
    assert list(rejected(logs)) == [PATHS[path]]
    assert VALUE not in str(logs)


async def test_a_flood_without_a_model_is_one_line_with_the_reason(tmp_path: Path) -> None:
    async with gateway(tmp_path, scorer=NoModel()) as client:
        with capture_logs() as logs:
            for _ in range(20):
                await client.predict(HYPER)
        assert counted(client.registry) == {"modelo": 20}
    assert len(logs) < 20
    assert {line["reason"] for line in logs} == {"no model in production"}


async def test_an_unready_service_rejects_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, scorer=NoModel()) as client:
        assert (await client.get("/health/ready")).status_code == 503
        assert counted(client.registry) == {}


async def test_a_flood_is_one_line_per_period_with_counts_by_rule() -> None:
    registry = CollectorRegistry()
    rejections = Rejections(registry, period_seconds=0.05)
    with capture_logs() as logs:
        for _ in range(1000):
            rejections.note(ProblemError(401, "sin_clave", ""))
            rejections.note(ProblemError(503, "modelo", "", reason="none"))
            rejections.note(ProblemError(403, "rol", ""), caller="ab")
        await until(lambda: len(logs) == 4)
        rejections.note(ProblemError(401, "sin_clave", ""))  # it goes on
        await until(lambda: len(logs) == 5)
        await until(lambda: not rejections.goes_on)  # and ends: the next one is logged at once
        rejections.note(ProblemError(401, "sin_clave", ""))
    lines = [{name: value for name, value in line.items() if name != "log_level"} for line in logs]
    first = {"event": "request_rejected", "count": 1}
    assert lines == [
        {**first, "status": 401, "rule": "sin_clave"},
        {**first, "status": 503, "rule": "modelo", "reason": "none"},
        {**first, "status": 403, "rule": "rol", "caller": "ab"},
        {
            "event": "requests_rejected",
            "seconds": 0.05,
            "counts": {"sin_clave": 999, "modelo": 999, "rol": 999},
            "callers": {"ab": 999},
            "reasons": {"modelo": "none"},
        },
        {"event": "requests_rejected", "seconds": 0.05, "counts": {"sin_clave": 1}},
        {**first, "status": 401, "rule": "sin_clave"},
    ]
    assert [line["log_level"] for line in logs][3:] == ["warning", "info", "info"]
    assert counted(registry) == {"sin_clave": 1002, "modelo": 1000, "rol": 1000}


async def test_sources_of_wrong_keys_are_logged_within_a_bound() -> None:
    rejections = Rejections(CollectorRegistry(), period_seconds=0.05)
    with capture_logs() as logs:
        for number in range(100):
            rejections.note(ProblemError(401, "clave_no_valida", ""), address=f"10.0.0.{number % 50}")
        await until(lambda: len(logs) == 2)
    assert logs[0]["source"] == "10.0.0.0"
    assert len(logs[1]["sources"]) == 11
    assert sum(logs[1]["sources"].values()) == 99
