"""What holds for every route of every service: security headers, and a deadline for the body."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from services.gateway.key_admin import create
from services.gateway.settings import GatewaySettings
from services.local.app import open_local
from shared.diseases.thyroid import DatosPaciente
from shared.web.api_keys import ApiKeyStore, Role
from shared.web.hosting import edge_app, edge_of, http_app
from shared.web.routing import RouteRoles
from tests.support.bundles import make_bundle

CONCRETE = {
    "{id}": "01890a5d-ac96-774b-bcce-b302099a8057",
    "{name}": "tiroides",
    "{version}": "1",
    "{path:path}": "swagger-ui.css",
    "{archivo}": "page.css",
}
PROTECTION = {
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every response, written out: a header that the code loses must be missed."""
CARD = b"<title>Ficha</title><style>p{}</style>"
STYLED = {"/", "/docs", "/modelo/ficha", "/v2/models/tiroides/card"}
"""Pages, whose policies allow their styles."""


@asynccontextmanager
async def local(
    folder: Path, monkeypatch: pytest.MonkeyPatch, keys: ApiKeyStore | None = None, deadline_seconds: float = 5
) -> AsyncIterator[tuple[httpx.AsyncClient, RouteRoles]]:
    """Run the local profile in process."""
    monkeypatch.setenv("PREDECIR_VAR", str(folder / "var"))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{folder}/predicciones.db")
    registry = CollectorRegistry()
    async with open_local(GatewaySettings(gateway_deadline_seconds=deadline_seconds), registry) as parts:
        app = http_app("test", *parts, registry=registry)
        transport = httpx.ASGITransport(edge_app(app, "localhost", keys))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client, edge_of(app).roles


def concrete(path: str) -> str:
    for name, value in CONCRETE.items():
        path = path.replace(name, value)
    return path


def lacks(response: httpx.Response) -> dict[str, str | None]:
    """Return the headers that protect a response and are not as they must be."""
    path, headers = response.request.url.path, response.headers
    expected = dict(PROTECTION)
    own = path in STYLED or path.startswith("/pagina/")
    if own and response.status_code in {200, 304}:
        policy = expected.pop("content-security-policy")
        own_policy = headers["content-security-policy"].split("; ")
        assert set(policy.split("; ")) <= set(own_policy), path
    if "json" in headers.get("content-type", "") and not path.startswith("/pagina/"):
        expected["cache-control"] = "no-store"
    return {name: headers.get(name) for name, value in expected.items() if headers.get_list(name) != [value]}


async def test_every_response_has_the_security_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bundle(tmp_path / "var", DatosPaciente, card=CARD)
    async with local(tmp_path, monkeypatch) as (client, roles):
        addresses = [*roles, ("GET", "/unknown"), ("GET", "/predecir/"), ("GET", "/pagina/unknown.js")]
        for method, path in addresses:
            for other in (method, "HEAD", "DELETE"):
                response = await client.request(other, concrete(path))
                assert lacks(response) == {}, (other, path, response.status_code)
        for headers in ({"Host": "a.example"}, {"Host": "localhost:a"}, {"Origin": "http://a.example"}):
            assert lacks(await client.get("/", headers=headers)) == {}
        patient = {"edad": 47, "sexo": "F", "tsh": 0.05}
        answered = await client.post("/predecir", json=patient)
        assert (answered.status_code, lacks(answered)) == (200, {})


async def test_rejections_by_keys_have_the_security_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, _ = create(tmp_path / "access.json", Role.ANALISTA)
    async with local(tmp_path, monkeypatch, ApiKeyStore(tmp_path / "access.json")) as (client, roles):
        for method, path in roles:
            for sent in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {key}"}):
                assert lacks(await client.request(method, concrete(path), headers=sent)) == {}, path


async def test_every_body_that_does_not_arrive_in_time_is_408(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    monkeypatch.setattr("services.inference.api.routes.BODY_SECONDS", 0.05)
    make_bundle(tmp_path / "var", DatosPaciente, card=CARD)
    async with local(tmp_path, monkeypatch, deadline_seconds=0.05) as (client, roles):
        with_body = [concrete(path) for method, path in roles if method == "POST"]
        assert len(with_body) == 6
        for path in with_body:
            async with asyncio.timeout(10):
                response = await client.post(path, content=stalls(), headers={"Content-Type": "application/json"})
            assert (path, response.status_code) == (path, 408)
