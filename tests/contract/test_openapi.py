"""The OpenAPI document of the whole system: complete, in Spanish, and with examples that the API accepts."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client import CollectorRegistry

from services.gateway.api.requests import patient_schema, read_patient
from services.gateway.settings import GatewaySettings
from services.local.app import open_local
from shared.diseases.thyroid import DatosPaciente
from shared.patient import Patient
from shared.web.hosting import edge_of, http_app
from shared.web.routing import RouteRoles
from tests.support.analysts_suite import Anemia, Renamed
from tests.support.doubles import MODEL
from tests.support.gateway import PROBLEM, gateway


@pytest.fixture
async def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[dict[str, Any], RouteRoles]]:
    """The document of the local profile, and its table of roles."""
    monkeypatch.setenv("PREDECIR_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/predicciones.db")
    registry = CollectorRegistry()
    async with open_local(GatewaySettings(), registry) as parts:
        app = http_app("test", *parts, registry=registry)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            first, again = [(await client.get("/openapi.json")).json() for _ in range(2)]
            assert first == again
            yield first, edge_of(app).roles


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method.upper(), path): each for path, of in document["paths"].items() for method, each in of.items()}


async def test_every_operation_documents_its_roles_and_rejections(
    system: tuple[dict[str, Any], RouteRoles],
) -> None:
    document, route_roles = system
    assert document["components"]["securitySchemes"].keys() == {"clave"}
    for route, operation in operations(document).items():
        roles = sorted(str(role) for role in route_roles[route] if role is not None)
        public = None in route_roles[route]
        assert operation["security"] == ([] if public else [{"clave": roles}]), route
        assert {"401", "403", "429"} <= operation["responses"].keys() or public
        # By default the framework takes the function's name; the protocol of inference is English anyway.
        named = operation["summary"].lower() in operation["operationId"].replace("_", " ")
        assert not named or route[1].startswith("/v2"), route
    assert "HTTPValidationError" not in str(document)


async def test_what_a_doctor_s_page_needs_is_described_with_its_errors(
    system: tuple[dict[str, Any], RouteRoles],
) -> None:
    described = operations(system[0])
    for route, statuses in {
        ("POST", "/predecir"): {"200", "400", "408", "413", "415", "422", "503"},
        ("POST", "/explicar"): {"200", "400", "408", "413", "415", "422", "503"},
        ("POST", "/predicciones/{id}/resultado"): {"200", "400", "408", "413", "415", "422", "503"},
        ("POST", "/referencias"): {"200", "400", "408", "413", "415", "422"},
        ("GET", "/predicciones"): {"200", "422", "503"},
        ("GET", "/predicciones/{id}"): {"200", "404", "422", "503"},
    }.items():
        responses = described[route]["responses"]
        assert responses.keys() == statuses | {"401", "403", "429"}, route
        for status in responses.keys() - {"200"}:
            assert responses[status]["content"].keys() == {PROBLEM}, (route, status)


@pytest.mark.parametrize("patient", [DatosPaciente, Anemia, Renamed])
def test_the_example_of_a_patient_is_one(patient: type[Patient]) -> None:
    [example] = patient_schema(patient)["examples"]
    assert isinstance(read_patient(orjson.dumps(example), patient), patient)


async def test_every_example_is_answered(tmp_path: Path) -> None:
    async with gateway(tmp_path) as client:
        described = operations((await client.get("/openapi.json")).json())
        asked = 0
        for (method, path), operation in described.items():
            for body in _examples(operation):
                response = await client.request(
                    method, path.replace("{id}", "01890a5d-ac96-774b-bcce-b302099a8057"), json=body
                )
                assert response.status_code == 200, (path, response.text)
                asked += 1
    assert asked == 5
    assert MODEL.classes[-1] in str(described)


def _examples(operation: dict[str, Any]) -> list[Any]:
    content = operation.get("requestBody", {}).get("content", {})
    examples: list[Any] = content.get("application/json", {}).get("schema", {}).get("examples", [])
    return examples
