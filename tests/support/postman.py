"""The Postman collection, made from the OpenAPI document: `python -m tests.support.postman > docs/postman.json`."""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from services.gateway.settings import GatewaySettings
from services.local.app import open_local
from shared.diseases.thyroid import DatosPaciente
from shared.telemetry import configure_logging
from shared.web.hosting import http_app

_SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
_VERBS = ("get", "post", "put", "patch", "delete")
_VARIABLES: Mapping[str, tuple[str, str]] = {
    "servidor": ("http://127.0.0.1:8000", "La dirección de la página."),
    "inferencia": ("{{servidor}}", "Con servicios separados, la dirección de uno de inferencia."),
    "clave": ("", "Vacía si no se han creado claves."),
    "id": ("", "La última predicción: lo pone la petición de un diagnóstico."),
    "name": (DatosPaciente.disease.name, "El modelo: lo pone la petición de un diagnóstico."),
    "version": ("1", "Su versión: la pone la petición de un diagnóstico."),
    "intentos": ("0", "Cuántas veces se ha buscado una predicción que aún no está registrada."),
}
"""Variables of the collection: value and description. Every parameter in a path is one of them."""
_INFERENCE = ("/v2", "/modelo")
"""Paths of the inference service, besides those below the first. A balancer publishes those of gateway and recorder."""
_ABOUT = (
    "Funciona tal cual con el perfil local (`make run`), también entera: `newman run docs/postman.json`. Pida primero "
    "un diagnóstico: las peticiones sobre una predicción o una versión usan la última. Con claves, la variable «clave» "
    "lleva una del rol que nombra cada petición; véase docs/operations/security.md. En el perfil de servidor "
    "«servidor» es la dirección del balanceador, que no publica /modelo ni /v2: «inferencia» es la de un servicio de "
    "inferencia, alcanzable solo desde su red. Allí /metrics y /health son de un gateway cualquiera."
)
_REMEMBER = (
    "if (pm.response.code === 200) {",
    "    const respuesta = pm.response.json();",
    '    pm.collectionVariables.set("id", respuesta.id);',
    '    pm.collectionVariables.set("name", respuesta.modelo.nombre);',
    '    pm.collectionVariables.set("version", respuesta.modelo.version);',
    "}",
)
"""Script after a prediction: the requests about a prediction or a version then use the last one."""
_AGAIN = (
    'const intentos = Number(pm.collectionVariables.get("intentos"));',
    "const pendiente = pm.response.code === 404 && intentos < 100;",
    'pm.collectionVariables.set("intentos", pendiente ? intentos + 1 : 0);',
    "if (pendiente) {  // se registra poco después de responder",
    "    setTimeout(() => {}, 100);",
    "    pm.execution.setNextRequest(pm.info.requestId);",
    "    return;",
    "}",
)
"""Script before the tests of a recorded prediction: a run repeats the request until its row is there, for 10 s."""
_SCRIPTS: Mapping[str, tuple[str, ...]] = {"POST /predecir": _REMEMBER, "GET /predicciones/{id}": _AGAIN}


async def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of the whole system, as the local profile serves it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        registry = CollectorRegistry()
        async with open_local(GatewaySettings(_env_file=None), registry) as parts:
            return http_app("Predecir", *parts, registry=registry).openapi()


def collection(document: Mapping[str, Any]) -> dict[str, Any]:
    """Turn an OpenAPI document into a collection: a folder per tag, a request per operation."""
    folders: dict[str, list[dict[str, Any]]] = {}
    for path, operations in document["paths"].items():
        for verb in _VERBS:
            if operation := operations.get(verb):
                [tag, *_] = operation.get("tags", ["otros"])
                folders.setdefault(tag, []).append(_request(path, verb, operation, document["components"]["schemas"]))
    return {
        "info": {
            "name": document["info"]["title"],
            "description": _ABOUT,
            "schema": _SCHEMA,
        },
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{clave}}", "type": "string"}]},
        "variable": [
            {"key": key, "value": value, "description": described} for key, (value, described) in _VARIABLES.items()
        ],
        "item": [{"name": tag, "item": requests} for tag, requests in folders.items()],
    }


def _request(path: str, verb: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    parameters = operation.get("parameters", [])
    request: dict[str, Any] = {
        "method": verb.upper(),
        "header": [_named(parameter) for parameter in parameters if parameter["in"] == "header"],
        "url": _url(path, parameters),
        "description": " ".join(filter(None, (operation.get("description"), _roles(operation)))),
    }
    if content := operation.get("requestBody", {}).get("content", {}).get("application/json"):
        raw = json.dumps(_example(content["schema"], schemas), ensure_ascii=False, indent=2)
        request["body"] = {"mode": "raw", "raw": raw, "options": {"raw": {"language": "json"}}}
    script = [*_SCRIPTS.get(f"{verb.upper()} {path}", ()), *_tests(operation, schemas)]
    event = {"listen": "test", "script": {"type": "text/javascript", "exec": script}}
    return {"name": operation.get("summary", path), "request": request, "event": [event]}


def _url(path: str, parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    steps = [f":{step[1:-1]}" if step.startswith("{") else step for step in path.strip("/").split("/")]
    host = "{{inferencia}}" if path in _INFERENCE or path.startswith(f"{_INFERENCE[0]}/") else "{{servidor}}"
    url: dict[str, Any] = {"raw": f"{host}/" + "/".join(steps), "host": [host], "path": steps}
    if query := [_named(parameter) for parameter in parameters if parameter["in"] == "query"]:
        url["query"] = query
    if names := [parameter["name"] for parameter in parameters if parameter["in"] == "path"]:
        url["variable"] = [{"key": name, "value": f"{{{{{name}}}}}"} for name in names]
    return url


def _roles(operation: Mapping[str, Any]) -> str:
    roles = [role for scheme in operation.get("security", []) for names in scheme.values() for role in names]
    return f"Rol: {' o '.join(roles)}." if roles else "No pide clave."


def _tests(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[str]:
    """Return a script that tests the status, and that the body has all fields that its schema requires, or is there."""
    status = min(status for status in operation["responses"] if status.startswith("2"))
    tests = [f'pm.test("responde {status}", () => pm.response.to.have.status({status}));']
    schema = operation["responses"][status].get("content", {}).get("application/json", {}).get("schema", {})
    required = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema).get("required", [])
    if required:
        keys = ", ".join(json.dumps(name) for name in required)
        tests.append(f'pm.test("están todos los campos", () => pm.expect(pm.response.json()).to.include.keys({keys}));')
    else:
        tests.append('pm.test("hay contenido", () => pm.expect(pm.response.text()).not.to.be.empty);')
    return tests


def _named(parameter: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with the optional ones switched off, so that a request can be sent unchanged."""
    described = parameter.get("description", "")
    return {"key": parameter["name"], "value": "", "description": described, "disabled": not parameter.get("required")}


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """Return the first example of `schema`, which every body has."""
    return schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)["examples"][0]


if __name__ == "__main__":
    configure_logging("error", service="postman")  # to stderr
    json.dump(collection(asyncio.run(openapi())), sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")
