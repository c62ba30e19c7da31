"""Additions to the OpenAPI document of a service that hold for all routes: roles, bodies and rejections."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

from shared.web.problems import MEDIA_TYPE, Problem
from shared.web.routing import NOBODY, SCHEMAS, Roles, RouteRoles
from shared.web.security_headers import CLOSED, inline_sources

_JSON = "application/json"
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
    "429": "La clave hace demasiadas peticiones por segundo, o de la dirección llegan muchas claves no válidas",
}


def add_documentation(app: FastAPI) -> None:
    """Add `/docs` to `app`, a `FastAPIOffline`, with relative addresses: a proxy may serve it below another path."""
    assets = "static-offline-docs"
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url=f"{assets}/swagger-ui-bundle.js",
        swagger_css_url=f"{assets}/swagger-ui.css",
        swagger_favicon_url=f"{assets}/favicon.png",
    )
    content = bytes(page.body)
    headers = {"Content-Security-Policy": _docs_policy(content)}

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(content, headers=headers)


def _docs_policy(page: bytes) -> str:
    """Return the policy of `/docs`: Swagger UI sets inline styles and has its icons in `data:` addresses.

    Nothing of a disease's texts can load from elsewhere.
    """
    scripts = f"script-src 'self' {inline_sources(page, 'script')}"
    others = "style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
    return f"default-src 'none'; {scripts}; {others}; {CLOSED}"


def document(app: FastAPI, roles: RouteRoles, bodies: Mapping[str, Mapping[str, Any]]) -> None:
    """Complete the document of `app`; `roles` are those of its routes, `bodies` the schemas of their bodies by name."""
    plain = app.openapi

    def documented() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        document = plain()
        document["info"]["description"] = _ABOUT
        components = document.setdefault("components", {})
        problem = Problem.model_json_schema(ref_template=SCHEMAS)
        schemas = components.setdefault("schemas", {})
        for name, schema in {**bodies, "Problem": problem}.items():
            own = dict(schema)
            schemas |= own.pop("$defs", {}) | {name: own}
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        components["securitySchemes"] = {_SCHEME: _KEY}
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _guarded(operation, roles.get((method.upper(), path), NOBODY))
                if _is_automatic(operation) and _takes_any(operation.get("parameters", ())):
                    del operation["responses"]["422"]
                for response in operation["responses"].values():
                    _sent_as_error(response)
        return document

    app.openapi = documented  # type: ignore[method-assign]  # as FastAPI's documentation extends it


def _guarded(operation: dict[str, Any], roles: Roles) -> None:
    """Document the roles; the empty alternative stands for an installation without keys."""
    if None in roles:
        operation["security"] = []
        return
    operation["security"] = [{}, {_SCHEME: sorted(role for role in roles if role is not None)}]
    for status, description in _GUARDED.items():
        operation["responses"].setdefault(status, {"description": description, "content": _problem()})


def _is_automatic(operation: dict[str, Any]) -> bool:
    """Return whether the framework added a 422, as it does for every operation with parameters."""
    return "HTTPValidationError" in str(operation["responses"].get("422"))


def _takes_any(parameters: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the framework can reject none of `parameters`: steps of the path without a rule."""
    return all(
        parameter["in"] == "path"
        and parameter["schema"].keys() <= {"title", "type", "format"}
        and parameter["schema"]["type"] == "string"
        for parameter in parameters
    )


def _sent_as_error(response: dict[str, Any]) -> None:
    """Correct the media type of an error: the framework documents that of the route's successes."""
    for media_type, media in list(response.get("content", {}).items()):
        name = media.get("schema", {}).get("$ref", "").rpartition("/")[2]
        if name in {"Problem", "HTTPValidationError"}:
            response["content"] = _problem()
        elif name == "ErrorBody" and media_type != _JSON:
            response["content"] = {_JSON: media}
    if response.get("description") == "Validation Error":
        response["description"] = "Parámetros no válidos"


def _problem() -> dict[str, Any]:
    return {MEDIA_TYPE: {"schema": {"$ref": SCHEMAS.format(model="Problem")}}}
