"""The OpenAPI document of the whole system: complete, in Spanish, and with examples that the API accepts."""

from collections.abc import AsyncIterator, Iterator
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
from tests.support.openapi import body_schema, component


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
        assert operation["security"] == ([] if public else [{}, {"clave": roles}]), route
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
        ("GET", "/predicciones/{id}"): {"200", "404", "500", "503"},
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
        document = (await client.get("/openapi.json")).json()
        described = operations(document)
        asked = 0
        for (method, path), operation in described.items():
            for body in body_schema(document, operation).get("examples", []):
                response = await client.request(
                    method, path.replace("{id}", "01890a5d-ac96-774b-bcce-b302099a8057"), json=body
                )
                assert response.status_code == 200, (path, response.text)
                asked += 1
    assert asked == 5
    assert MODEL.classes[-1] in str(document)


async def test_every_reference_leads_to_a_component(system: tuple[dict[str, Any], RouteRoles]) -> None:
    """Generators of clients reject a document with another kind of reference."""
    document, _ = system
    references = {schema["$ref"] for schema in objects(document) if "$ref" in schema}
    assert references == {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


async def test_the_same_patient_is_one_schema_everywhere(system: tuple[dict[str, Any], RouteRoles]) -> None:
    document, _ = system
    described = operations(document)
    for path in ("/predecir", "/explicar"):
        content = described["POST", path]["requestBody"]["content"]["application/json"]
        assert content == {"schema": {"$ref": "#/components/schemas/DatosPaciente"}}
    patient = document["components"]["schemas"]["DatosPaciente"]
    assert patient == orjson.loads(orjson.dumps(patient_schema(DatosPaciente)))
    for schema in objects(document):
        if schema.get("type") == "integer":
            assert not any(isinstance(value, float) for value in schema.values()), schema


async def test_successes_and_errors_have_their_own_media_types(system: tuple[dict[str, Any], RouteRoles]) -> None:
    described = operations(system[0])
    assert media_types(described["GET", "/metrics"])["200"] == {"text/plain"}
    card = media_types(described["GET", "/modelo/ficha"])
    assert card == {"200": {"text/html"}, "404": {PROBLEM}, "503": {PROBLEM}}
    for route, operation in described.items():
        for status, types in media_types(operation).items():
            if status >= "400" and not route[1].endswith("/health/ready"):
                assert types == ({"application/json"} if route[1].startswith("/v2") else {PROBLEM}), (route, status)


async def test_every_operation_of_the_inference_protocol_is_typed(system: tuple[dict[str, Any], RouteRoles]) -> None:
    document, _ = system
    bodies: dict[str, str] = {}
    for (method, path), operation in operations(document).items():
        if not path.startswith("/v2"):
            continue
        assert all(parameter["schema"]["type"] == "string" for parameter in operation.get("parameters", ())), path
        assert "422" not in operation["responses"], path
        for status, response in operation["responses"].items():
            name = "" if path.endswith("/card") else component(response["content"]["application/json"]["schema"])
            if status == "200":
                bodies[f"{method} {path}"] = name
            elif name:
                assert name == "ErrorBody", (path, status)
    model, version = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    assert bodies == {
        "GET /v2": "ServerMetadata",
        "GET /v2/health/live": "ServerLive",
        "GET /v2/health/ready": "ServerReady",
        f"GET {model}": "ModelMetadata",
        f"GET {model}/card": "",
        f"GET {model}/ready": "ModelReady",
        f"GET {version}": "ModelMetadata",
        f"GET {version}/ready": "ModelReady",
        f"POST {model}/infer": "InferResponse",
        f"POST {version}/infer": "InferResponse",
    }
    infer = operations(document)["POST", f"{model}/infer"]
    assert infer["responses"]["200"]["content"].keys() == {"application/json", "application/octet-stream"}
    assert body_schema(document, infer)["properties"].keys() == {"parameters", "inputs", "outputs", "id"}


def media_types(operation: dict[str, Any]) -> dict[str, set[str]]:
    return {status: set(response.get("content", {})) for status, response in operation["responses"].items()}


def objects(part: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - JSON
    """Yield every object in a JSON document, also within others."""
    if isinstance(part, dict):
        yield part
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from objects(inner)
