"""The Postman collection, made from the OpenAPI document: `python -m tests.support.postman > docs/postman.json`."""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from services.gateway.settings import GatewaySettings
from services.local.app import open_local
from shared.telemetry import configure_logging
from shared.web.hosting import http_app

_SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
_VERBS = ("get", "post", "put", "patch", "delete")
_REMEMBER = 'if (pm.response.code === 200) pm.collectionVariables.set("id", pm.response.json().id);'
"""Postman's script after a prediction: the requests about one prediction then use the id of the last one."""
_MADE_UP: Mapping[str, Any] = {"boolean": True, "integer": 1, "number": 1, "string": "texto", "array": [], "null": None}


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
            "description": "Sin claves, deje vacía la variable «clave». Véase docs/operations/security.md.",
            "schema": _SCHEMA,
        },
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{clave}}", "type": "string"}]},
        "variable": [
            {"key": "servidor", "value": "http://127.0.0.1:8000"},
            {"key": "clave", "value": ""},
            {"key": "id", "value": ""},
        ],
        "item": [{"name": tag, "item": requests} for tag, requests in folders.items()],
    }


def _request(path: str, verb: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    parameters = operation.get("parameters", [])
    steps = [f":{step[1:-1]}" if step.startswith("{") else step for step in path.strip("/").split("/")]
    query = [_named(parameter) for parameter in parameters if parameter["in"] == "query"]
    url: dict[str, Any] = {"raw": "{{servidor}}/" + "/".join(steps), "host": ["{{servidor}}"], "path": steps}
    if query:
        url["query"] = query
    if variables := [parameter["name"] for parameter in parameters if parameter["in"] == "path"]:
        url["variable"] = [{"key": name, "value": f"{{{{{name}}}}}"} for name in variables]
    request: dict[str, Any] = {
        "method": verb.upper(),
        "header": [_named(parameter) for parameter in parameters if parameter["in"] == "header"],
        "url": url,
        "description": operation.get("description", ""),
    }
    if body := operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema"):
        raw = json.dumps(_example(body, schemas), ensure_ascii=False, indent=2)
        request["body"] = {"mode": "raw", "raw": raw, "options": {"raw": {"language": "json"}}}
    item = {"name": operation.get("summary", path), "request": request}
    if path == "/predecir":
        item["event"] = [{"listen": "test", "script": {"type": "text/javascript", "exec": [_REMEMBER]}}]
    return item


def _named(parameter: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with the optional ones switched off, so that a request can be sent unchanged."""
    described = parameter.get("description", "")
    return {"key": parameter["name"], "value": "", "description": described, "disabled": not parameter.get("required")}


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:  # noqa: ANN401, PLR0911 - any JSON; one kind of schema each
    """Return a made-up value that `schema` accepts: a normal one where it has a reference range."""
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "referencia" in schema:
        return schema["referencia"][0]
    if "minimum" in schema and "maximum" in schema:
        return (schema["minimum"] + schema["maximum"]) // 2
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        limits = {name: value for name, value in schema.items() if name in {"minimum", "maximum"}}
        return schema["default"] if "default" in schema else _example({**schema["anyOf"][0], **limits}, schemas)
    if "properties" in schema:
        needed = schema.get("required", [])
        shown = {
            name: inner
            for name, inner in schema["properties"].items()
            if name in needed or "referencia" in inner or {"type": "null"} not in inner.get("anyOf", [])
        }
        return {name: _example(inner, schemas) for name, inner in shown.items()}
    return schema.get("default", _MADE_UP.get(schema.get("type", ""), {}))


if __name__ == "__main__":
    configure_logging("error", service="postman")  # to stderr
    json.dump(collection(asyncio.run(openapi())), sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")
