import asyncio
import resource
from collections.abc import Mapping

import httpx
import pytest
from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from shared.web.hosting import Part, Reason, allow_open_files, announcement, edge_app, http_app


def part(reasons: Mapping[str, Reason] | None = None) -> Part:
    router = APIRouter()

    @router.get("/breaks")
    async def breaks(secret: str) -> None:
        raise RuntimeError(secret)

    @router.get("/counts")
    async def counts(many: int) -> int:
        return many

    return Part((router,), lambda: reasons or {})


async def get(app: ASGIApp, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as client:
        return await client.get(path, headers=headers)


async def test_ready_names_what_each_part_lacks() -> None:
    other = part({"modelo": Reason("Aún no hay modelo.", "none yet")})
    app = http_app("test", part(), other, registry=CollectorRegistry())
    response = await get(app, "/health/ready")
    assert response.status_code == 503
    assert response.json() == {
        "estado": "no disponible",
        "motivos": {"modelo": "Aún no hay modelo."},
        "mensajes_tecnicos": {"modelo": "none yet"},
    }
    assert (await get(app, "/health/live")).status_code == 200


async def test_a_draining_service_is_alive_and_not_ready() -> None:
    draining = asyncio.Event()
    app = http_app("test", part(), registry=CollectorRegistry(), draining=draining)
    assert (await get(app, "/health/ready")).status_code == 200
    draining.set()
    response = await get(app, "/health/ready")
    assert (response.status_code, response.json()["motivos"]) == (503, {"servicio": "El servicio se está deteniendo."})
    assert (await get(app, "/health/live")).status_code == 200


def test_the_start_line_is_for_scripts_and_leads_a_doctor_to_the_page() -> None:
    url = "http://127.0.0.1:8000"
    assert announcement(url, {}, page=True) == f"ready on {url} · Abra {url} en el navegador"
    assert announcement(url, {}, page=False) == f"ready on {url} (see /docs)"
    unready = announcement(url, {"modelo": Reason("El modelo no está disponible.", "none")}, page=True)
    assert unready == f"listening on {url} · Aún no está listo. El modelo no está disponible. (none)"


def test_the_limit_of_open_files_fits_the_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        assert allow_open_files(100) == 100
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (512, hard)
        assert allow_open_files(1000) == 1000
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1256, hard)
        with capture_logs() as logs:
            assert allow_open_files(hard) == hard - 256
        assert [line["event"] for line in logs] == ["connections_limited"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_change_of_readiness_is_logged_once_with_its_messages() -> None:
    reasons = {"modelo": Reason("Aún no hay modelo.", "/var/x is missing")}
    app = http_app("test", part(reasons), registry=CollectorRegistry())
    with capture_logs() as logs:
        await get(app, "/health/ready")
        await get(app, "/health/ready")
        reasons.clear()
        await get(app, "/health/ready")
    assert [(line["event"], line["reasons"]) for line in logs] == [
        ("readiness_changed", {"modelo": "/var/x is missing"}),
        ("readiness_changed", {}),
    ]


async def test_metrics_are_those_of_the_registry() -> None:
    registry = CollectorRegistry()
    Counter("things", "Things", registry=registry).inc(3)
    assert "things_total 3.0" in (await get(http_app("test", part(), registry=registry), "/metrics")).text


async def test_an_unexpected_error_shows_its_place_and_no_value() -> None:
    app = edge_app(http_app("test", part(), registry=CollectorRegistry()), "localhost")
    with capture_logs() as logs:
        response = await get(app, "/breaks?secret=Juana")
    assert (response.status_code, response.headers["content-type"]) == (500, "application/problem+json")
    assert "Juana" not in response.text
    [line] = logs
    assert line["event"] == "request_failed"
    assert line["error"].startswith("RuntimeError at test_hosting.py:")
    assert "Juana" not in str(line)


async def test_a_wrong_parameter_is_named_and_not_repeated() -> None:
    response = await get(http_app("test", part(), registry=CollectorRegistry()), "/counts?many=Juana")
    assert response.status_code == 422
    assert [fault["campo"] for fault in response.json()["errores"]] == ["many"]
    assert "Juana" not in response.text


async def test_the_documentation_states_the_media_type_of_rejections() -> None:
    document = (await get(http_app("test", part(), registry=CollectorRegistry()), "/openapi.json")).json()
    refusal = document["paths"]["/counts"]["get"]["responses"]["422"]["content"]
    assert refusal == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert set(document["components"]["schemas"]["Problem"]["required"]) == {"type", "title", "status", "detail"}


async def test_a_wrong_method_gets_the_allowed_ones() -> None:
    app = http_app("test", part(), registry=CollectorRegistry())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.post("/counts")
    assert (response.status_code, response.headers["allow"]) == (405, "GET")
    assert response.json()["title"] == "Método no permitido"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:1234", 200),
        ("[::1]:8000", 200),
        ("[::1]", 200),
        ("evil.example", 403),
        ("localhost.evil.example:8000", 403),
        ("", 403),
        ("localhost:text", 400),
        ("localhost:65536", 400),
        ("localhost:1:2", 400),
        ("user@localhost", 400),
        ("[::1", 400),
    ],
)
async def test_only_our_own_names_are_answered(host: str, status: int) -> None:
    app = edge_app(http_app("test", part(), registry=CollectorRegistry()), "localhost,127.0.0.1,[::1]")
    assert (await get(app, "/health/live", Host=host)).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost:8000", 200), ("http://localhost:9999", 403), ("null", 403), ("https://a.b", 403)],
)
async def test_only_our_own_pages_may_ask(origin: str, status: int) -> None:
    app = edge_app(http_app("test", part(), registry=CollectorRegistry()), "localhost")
    assert (await get(app, "/health/live", Origin=origin)).status_code == status
