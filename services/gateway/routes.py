"""The gateway's routes, as the framework documents them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from services.gateway.answer import Respuesta
from services.gateway.outcome import ResultadoGuardado, outcome_schema
from shared.keys import Role
from shared.problems import Problem, ProblemError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from services.gateway.intake import Refusals
    from services.gateway.outcome import Outcomes
    from shared.access import Access
    from shared.patient import Patient

ACCESS: Access = {
    ("POST", "/predecir"): frozenset({Role.MEDICO}),
    ("POST", "/predicciones/{id}/resultado"): frozenset({Role.MEDICO}),
}
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


IdempotencyKey = Annotated[
    str | None, Header(description="Si se repite con los mismos datos, se devuelve la misma respuesta.")
]


class _Served(Response):
    """A response that an ASGI application gives by itself."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def gateway_router(patient: type[Patient], predict: ASGIApp, outcomes: Outcomes, refusals: Refusals) -> APIRouter:
    """Make the routes for `patient`; of `POST /predecir` only the documentation, for `predict` serves it."""
    # `read_body` holds the limit, and says so in Spanish; the framework's own answer would not.
    router = APIRouter(tags=["predicción"], max_body_size=sys.maxsize)

    @router.post(
        "/predecir",
        summary=patient.disease.title,
        response_model=Respuesta,
        responses=_GIVEN | _REFUSALS,
        openapi_extra=_json(patient.model_json_schema()),
    )
    async def predecir(_: Request, idempotency_key: IdempotencyKey = None) -> Response:
        del idempotency_key  # `predict` reads it; it stands here to be documented
        return _Served(predict)

    @router.post(
        "/predicciones/{id}/resultado",
        summary="Confirmar o corregir una predicción",
        description="Se puede repetir: cuenta el último resultado, y se guardan todos.",
        response_model=ResultadoGuardado,
        responses=_GIVEN | _REFUSALS,
        openapi_extra=_json(outcome_schema(patient)),
    )
    async def resultado(
        id: str,  # noqa: A002 - the contract's name
        request: Request,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        del idempotency_key  # the same
        with _noted(refusals):
            return _kept(*await outcomes.register(id, request.scope, request.receive))

    return router


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _kept(content: bytes, confirmed: bool) -> Response:  # noqa: FBT001 - of what was kept
    return Response(content, headers=None if confirmed else {"confirmada": "false"}, media_type="application/json")


@contextmanager
def _noted(refusals: Refusals) -> Iterator[None]:
    try:
        yield
    except ProblemError as problem:
        refusals.note(problem)
        raise
