"""The gateway's routes, as the framework documents them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from services.gateway.answer import Respuesta
from shared.keys import Role
from shared.problems import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from shared.access import Access
    from shared.patient import Patient

ACCESS: Access = {("POST", "/predecir"): frozenset({Role.MEDICO})}
"""Who may use these routes."""

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in {
        400: "El cuerpo no se entiende",
        401: "Hace falta una clave, o la enviada no es válida",
        403: "La clave no permite esta operación",
        408: "El cuerpo no terminó de llegar",
        409: "Ya se respondió con esta Idempotency-Key, y la respuesta ya no se guarda",
        413: "Más de 256 KiB",
        415: "No es application/json",
        422: "Datos no válidos; nombra campo y regla, nunca el valor",
        429: "La clave hace demasiadas peticiones por segundo",
        503: "No se puede responder o guardar la respuesta ahora",
    }.items()
}

_GIVEN: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "confirmada": {
                "description": "`false` si la respuesta está guardada, pero aún no confirmada (ACK_POLICY=broker).",
                "schema": {"type": "string", "enum": ["false"]},
            }
        }
    }
}


class _Served(Response):
    """A response that an ASGI application gives by itself."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def gateway_router(patient: type[Patient], predict: ASGIApp) -> APIRouter:
    """Document `POST /predecir` for `patient`; `predict` serves it."""
    router = APIRouter(tags=["predicción"])
    body = {"required": True, "content": {"application/json": {"schema": patient.model_json_schema()}}}

    @router.post(
        "/predecir",
        summary=patient.disease.title,
        response_model=Respuesta,
        responses=_GIVEN | _REFUSALS,
        openapi_extra={"requestBody": body},
    )
    async def predecir(
        _: Request,
        idempotency_key: Annotated[
            str | None, Header(description="Si se repite con los mismos datos, se devuelve la misma respuesta.")
        ] = None,
    ) -> Response:
        del idempotency_key  # `predict` reads it; it stands here to be documented
        return _Served(predict)

    return router
