"""Authorisation by API key: the whole system in process behind the edge middleware, with keys from a real file."""

import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.gateway.key_admin import create, revoke
from services.gateway.settings import GatewaySettings
from services.local.app import open_local
from shared.web.api_keys import ApiKeyStore, Role
from shared.web.authorization import source
from shared.web.hosting import Part, edge_app, edge_of, http_app
from shared.web.rate_limit import RateLimit
from shared.web.routing import NOBODY, Router
from tests.support.paths import ROOT
from tests.support.waiting import until

ANYBODY = {
    "GET /",
    "GET /pagina/{archivo}",
    "GET /modelo/ficha",
    "GET /health/live",
    "GET /health/ready",
    "GET /v2/health/live",
    "GET /v2/health/ready",
}
DOCS = {"GET /docs", "GET /openapi.json", "GET /static-offline-docs/{path:path}"}
MODEL = {
    "GET /v2",
    "GET /v2/models/{name}",
    "GET /v2/models/{name}/card",
    "GET /v2/models/{name}/ready",
    "GET /v2/models/{name}/versions/{version}",
    "GET /v2/models/{name}/versions/{version}/ready",
}
INFER = {"POST /v2/models/{name}/infer", "POST /v2/models/{name}/versions/{version}/infer"}
OPENS: dict[Role | None, set[str]] = {
    None: ANYBODY,
    Role.MEDICO: ANYBODY
    | DOCS
    | {
        "POST /predecir",
        "POST /predicciones/{id}/resultado",
        "POST /explicar",
        "POST /referencias",
        "GET /predicciones",
        "GET /predicciones/{id}",
    },
    Role.ANALISTA: ANYBODY | DOCS | {"GET /predicciones", "GET /predicciones/{id}", "GET /conciliacion"},
    Role.OPS: ANYBODY | DOCS | MODEL | {"GET /modelo", "GET /modelos", "GET /metrics", "GET /conciliacion"},
    Role.SERVICIO: ANYBODY | MODEL | INFER,
}
CONCRETE = {
    "{id}": "1",
    "{name}": "tiroides",
    "{version}": "1",
    "{path:path}": "swagger-ui.css",
    "{archivo}": "main.js",
}
MIXED_UP = ["", "Bearer", "Bearer ", "Bearer pdk_{}", "Basic {}", "{}", "Bearer  {}", "Bearer {}x", "Bearer {} "]


class KeyedApp:
    """The application of some parts behind the edge middleware, and the file of its keys."""

    def __init__(self, path: Path, parts: Iterable[Part], limit: RateLimit | None = None) -> None:
        self.path, self.parts = path, tuple(parts)
        app = http_app("test", *self.parts, registry=CollectorRegistry())
        self.roles = edge_of(app).roles
        transport = httpx.ASGITransport(
            edge_app(app, "localhost", ApiKeyStore(path), limit), raise_app_exceptions=False
        )
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def request(self, route: str, key: str | None = None, **headers: str) -> httpx.Response:
        for name, value in CONCRETE.items():
            route = route.replace(name, value)
        method, _, path = route.partition(" ")
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return await self.client.request(method, path, headers=headers)

    async def until(self, route: str, key: str | None, status: int) -> None:
        async def answers() -> bool:
            return (await self.request(route, key)).status_code == status

        await until(answers)


@pytest.fixture
async def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[KeyedApp, dict[Role, str]]]:
    monkeypatch.chdir(tmp_path)  # where the local system keeps its database
    settings = GatewaySettings()
    keys = {role: create(settings.keys_file, role)[0] for role in Role}
    async with open_local(settings, CollectorRegistry()) as parts:
        yield KeyedApp(settings.keys_file, parts), keys


def small(tmp_path: Path, limit: RateLimit | None = None) -> KeyedApp:
    """Build a service with routes that declare roles and two that declare none."""
    router, plain = Router(), APIRouter()

    @router.get("/listed", roles={Role.OPS})
    @router.get("/forgotten")
    @plain.get("/plain")
    @router.get("/things/{id}", roles={Role.OPS})
    @router.get("/things/all", roles={Role.OPS, Role.MEDICO})
    @router.get("/{kind}/special", roles={Role.OPS, Role.MEDICO})
    async def answer() -> str:
        return "in"

    return KeyedApp(tmp_path / "access.json", [Part((router, plain), dict)], limit)


async def test_every_route_of_every_service_declares_its_roles(system: tuple[KeyedApp, dict[Role, str]]) -> None:
    app, _ = system
    assert {f"{method} {path}" for method, path in app.roles} == set().union(*OPENS.values())
    assert [route for route, roles in app.roles.items() if roles == NOBODY] == []


@pytest.mark.parametrize("role", OPENS)
async def test_a_role_opens_its_routes_and_no_other(
    system: tuple[KeyedApp, dict[Role, str]], role: Role | None
) -> None:
    app, keys = system
    key = None if role is None else keys[role]
    statuses = {route: (await app.request(route, key)).status_code for route in map(" ".join, app.roles)}
    assert {route for route, status in statuses.items() if status not in {401, 403}} == OPENS[role]
    assert {statuses[route] for route in statuses.keys() - OPENS[role]} == {401 if key is None else 403}


@pytest.mark.parametrize("header", MIXED_UP)
async def test_a_malformed_key_is_rejected(tmp_path: Path, header: str) -> None:
    key, _ = create(tmp_path / "access.json", Role.OPS)
    response = await small(tmp_path).request("GET /listed", Authorization=header.format(key))
    assert (response.status_code, response.headers["www-authenticate"]) == (401, 'Bearer realm="Predecir"')
    assert response.headers["content-type"] == "application/problem+json"
    assert key not in response.text


async def test_the_scheme_is_case_insensitive(tmp_path: Path) -> None:
    key, _ = create(tmp_path / "access.json", Role.OPS)
    assert (await small(tmp_path).request("GET /listed", Authorization=f"bEARER {key}")).status_code == 200


@pytest.mark.parametrize("route", ["GET /forgotten", "GET /plain"])
async def test_a_route_without_roles_is_closed_to_every_key(tmp_path: Path, route: str) -> None:
    keyless = small(tmp_path)
    assert (await keyless.request(route)).status_code == 403
    keys = [create(tmp_path / "access.json", role)[0] for role in Role]
    app = small(tmp_path)
    assert {(await app.request(route, key)).status_code for key in keys} == {403}
    assert (await app.request(route)).status_code == 401


async def test_an_unknown_route_is_404_with_a_key_and_401_without(tmp_path: Path) -> None:
    key, _ = create(tmp_path / "access.json", Role.OPS)
    app = small(tmp_path)
    assert (await app.request("GET /nowhere", key)).status_code == 404
    assert (await app.request("POST /listed", key)).status_code == 404
    assert (await app.request("GET /nowhere")).status_code == 401


async def test_a_trailing_slash_is_404_in_words_and_never_a_redirect(
    system: tuple[KeyedApp, dict[Role, str]],
) -> None:
    app, keys = system
    for method, path in app.roles:
        if path == "/":
            continue
        for key in (None, *keys.values()):
            response = await app.request(f"{method} {path}/", key)
            assert (response.status_code, response.headers.get("location")) == (404, None), (method, path)
            if path.startswith("/v2"):
                assert "ends with a slash" in response.json()["error"]
            else:
                assert response.json()["type"] == "urn:predecir:problema:barra_final"
                assert "quite la barra final" in response.json()["detail"]


async def test_the_framework_alone_never_redirects(system: tuple[KeyedApp, dict[Role, str]]) -> None:
    keyed, _ = system
    app = http_app("test", *keyed.parts, registry=CollectorRegistry())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for method, path in [*keyed.roles, ("GET", "/static-offline-docs")]:
            for address in {path, f"{path}/"} - {"//"}:
                response = await client.request(method, address)
                assert not response.has_redirect_location, (method, address)


@pytest.mark.parametrize("path", ["/things/all", "/things/special"])
async def test_where_two_paths_match_both_must_name_the_role(tmp_path: Path, path: str) -> None:
    medico, ops = (create(tmp_path / "access.json", role)[0] for role in (Role.MEDICO, Role.OPS))
    app = small(tmp_path)
    assert (await app.request(f"GET {path}", medico)).status_code == 403
    assert (await app.request(f"GET {path}", ops)).status_code == 200


async def test_a_head_request_is_authorised_as_a_get(tmp_path: Path) -> None:
    medico, ops = (create(tmp_path / "access.json", role)[0] for role in (Role.MEDICO, Role.OPS))
    app = small(tmp_path)
    assert (await app.request("HEAD /listed", medico)).status_code == 403
    assert (await app.request("HEAD /listed", ops)).status_code == 405


async def test_no_request_needs_a_key_before_one_exists(tmp_path: Path) -> None:
    app = small(tmp_path)
    assert (await app.request("GET /listed")).status_code == 200
    key, _ = create(tmp_path / "access.json", Role.OPS)
    await app.until("GET /listed", None, 401)
    assert (await app.request("GET /listed", key)).status_code == 200


async def test_an_unreadable_file_closes_a_service_without_keys(tmp_path: Path) -> None:
    app = small(tmp_path)
    assert (await app.request("GET /listed")).status_code == 200
    (tmp_path / "access.json").write_text("[")
    await app.until("GET /listed", None, 503)


async def test_a_revoked_key_is_rejected_without_a_restart(tmp_path: Path) -> None:
    key, made = create(tmp_path / "access.json", Role.OPS)
    app = small(tmp_path)
    assert (await app.request("GET /listed", key)).status_code == 200
    revoke(tmp_path / "access.json", made.id)
    await app.until("GET /listed", key, 401)
    assert (await app.request("GET /listed")).status_code == 401
    assert (await small(tmp_path).request("GET /listed", key)).status_code == 401


@pytest.mark.parametrize("harm", ["remove", "damage"])
async def test_a_lost_file_closes_the_service_until_it_is_back(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "access.json"
    key, _ = create(path, Role.OPS)
    app = small(tmp_path)
    kept = path.read_bytes()
    path.unlink() if harm == "remove" else path.write_bytes(kept[:40])
    await app.until("GET /listed", key, 503)
    assert (await app.request("GET /listed")).headers["retry-after"] == "1"
    assert (await app.request("GET /health/live")).status_code == 200
    path.write_bytes(kept)
    await app.until("GET /listed", key, 200)


async def test_requests_above_the_limit_are_429_for_that_key_only(tmp_path: Path) -> None:
    hasty, calm = (create(tmp_path / "access.json", Role.OPS)[0] for _ in range(2))
    app = small(tmp_path, RateLimit(rate=0.01, burst=3))
    statuses = [(await app.request("GET /listed", hasty)).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    refusal = await app.request("GET /listed", hasty)
    assert 0 < int(refusal.headers["retry-after"]) <= 100
    assert (await app.request("GET /listed", calm)).status_code == 200


async def test_rejections_are_logged_with_the_key_s_id_and_never_the_key(tmp_path: Path) -> None:
    key, made = create(tmp_path / "access.json", Role.MEDICO)
    app = small(tmp_path)
    with capture_logs() as logs:
        await app.request("GET /listed", key)
        await app.request("GET /listed", "pdk_someone-elses")
    assert [(line["rule"], line.get("caller")) for line in logs] == [("rol", made.id), ("clave_no_valida", None)]
    assert key not in str(logs)
    assert "someone-elses" not in str(logs)


async def test_many_wrong_keys_of_one_source_are_429_and_valid_ones_are_served(tmp_path: Path) -> None:
    valid, _ = create(tmp_path / "access.json", Role.OPS)
    app = small(tmp_path)
    guesses = [await app.request("GET /listed", f"pdk_{number}") for number in range(20)]
    statuses = [guess.status_code for guess in guesses]
    assert statuses == sorted(statuses)  # 401 up to the bound, then 429
    assert set(statuses) == {401, 429}
    assert (guesses[-1].headers["retry-after"], guesses[-1].headers["connection"]) == ("1", "close")
    assert guesses[-1].json()["type"] == "urn:predecir:problema:claves_no_validas"
    assert (await app.request("GET /listed", valid)).status_code == 200
    assert (await app.request("GET /listed")).status_code == 401  # without a key: nothing was tried


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (("10.0.0.1", 1), "10.0.0.1"),
        (("::ffff:10.0.0.1", 1), "10.0.0.1"),
        (("2001:db8::1", 1), "2001:db8::/64"),
        (("fe80::1%eth0", 1), "fe80::/64"),
        (None, ""),
    ],
)
def test_a_source_is_an_address_or_the_network_of_one_line(client: tuple[str, int] | None, expected: str) -> None:
    assert source({"client": client}) == expected


@pytest.mark.parametrize("route", ["GET /health/ready", "GET /v2/health/ready"])
async def test_readiness_has_technical_messages_for_operators_only(
    system: tuple[KeyedApp, dict[Role, str]], route: str
) -> None:
    app, keys = system
    with capture_logs() as logs:
        for role, key in [(None, None), *keys.items(), (None, "pdk_wrong")]:
            response = await app.request(route, key)
            assert response.status_code == 503
            assert ("production" in response.text) == (role is Role.OPS), role
    assert route.startswith("GET /v2") or "production" in str(logs)


@pytest.mark.parametrize("role", Role)
def test_the_security_page_lists_the_routes_of_a_role(role: Role) -> None:
    page = (ROOT / "docs" / "operations" / "security.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith(f"| `{role}` |")]
    assert set(re.findall(r"`([A-Z]+ /[^`]*)`", row)) == OPENS[role] - ANYBODY - DOCS - MODEL - INFER
