"""Additions to the OpenAPI document of a service that hold for all routes: roles and rejections."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

from shared.web.problems import MEDIA_TYPE, Problem
from shared.web.routing import NOBODY, Roles, RouteRoles

_SCHEMAS = "#/components/schemas/{model}"
_SCHEME = "clave"
_ABOUT = (
    "Los errores son `application/problem+json` (RFC 9457): nombran campo y regla, nunca el valor. Sin claves creadas "
    "nadie necesita una, y solo se atiende en este equipo."
)
_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "Una clave de `python -m services.gateway keys create`; cada operación nombra los roles que admite.",
}
_GUARDED = {
    "401": "Hace falta una clave, o la enviada no es válida",
    "403": "La clave no permite esta operación",
    "429": "La clave hace demasiadas peticiones por segundo",
}


def add_documentation(app: FastAPI) -> None:
    """Add `/docs` to `app`, a `FastAPIOffline`, with relative addresses: a proxy may serve it below another path."""
    assets = "static-offline-docs"

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url=f"{assets}/swagger-ui-bundle.js",
            swagger_css_url=f"{assets}/swagger-ui.css",
            swagger_favicon_url=f"{assets}/favicon.png",
        )


def document(app: FastAPI, roles: RouteRoles) -> None:
    """Complete the document of `app`; `roles` are those of its routes."""
    plain = app.openapi

    def documented() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        document = plain()
        document["info"]["description"] = _ABOUT
        components = document.setdefault("components", {})
        problem = Problem.model_json_schema(ref_template=_SCHEMAS)
        schemas = components.setdefault("schemas", {})
        schemas |= problem.pop("$defs") | {"Problem": problem}
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        components["securitySchemes"] = {_SCHEME: _KEY}
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _guarded(operation, roles.get((method.upper(), path), NOBODY))
                for response in operation["responses"].values():
                    _sent_as_problem(response)
        return document

    app.openapi = documented  # type: ignore[method-assign]  # as FastAPI's documentation extends it


def _guarded(operation: dict[str, Any], roles: Roles) -> None:
    if None in roles:
        operation["security"] = []
        return
    operation["security"] = [{_SCHEME: sorted(role for role in roles if role is not None)}]
    for status, description in _GUARDED.items():
        operation["responses"].setdefault(status, {"description": description, "content": _problem()})


def _sent_as_problem(response: dict[str, Any]) -> None:
    schema = response.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    if schema.rpartition("/")[2] in {"Problem", "HTTPValidationError"}:
        response["content"] = _problem()
        if response.get("description") == "Validation Error":
            response["description"] = "Parámetros no válidos"


def _problem() -> dict[str, Any]:
    return {MEDIA_TYPE: {"schema": {"$ref": _SCHEMAS.format(model="Problem")}}}
