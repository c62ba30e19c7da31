"""The gateway's routes and their documentation."""

import sys
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, Path, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.api.answers import Respuesta
from services.gateway.api.explain import Explainer, Explicacion
from services.gateway.api.feedback import FeedbackHandler, ResultadoGuardado, feedback_schema
from services.gateway.api.patient_reference import HashDeReferencia, PatientReferences, Referencia
from services.gateway.api.requests import LONGEST_KEY, patient_schema, read_in_time, read_patient
from shared.patient import Patient
from shared.web.access_trail import note_access
from shared.web.api_keys import Role
from shared.web.problems import Problem
from shared.web.routing import Body, Router

_Responses = dict[int | str, dict[str, Any]]
_DESCRIPTIONS = {
    400: "El cuerpo no se entiende",
    408: "El cuerpo no terminó de llegar",
    413: "Más de 256 KiB, o de 48 KiB detrás del balanceador",
    415: "No es application/json, o su Content-Encoding no es gzip ni deflate",
    422: "Datos no válidos; nombra campo y regla, nunca el valor",
    503: "No se puede responder o guardar la respuesta ahora",
}


def _rejections(*statuses: int) -> _Responses:
    """Document these rejections; those of all routes are in `shared.web.openapi`."""
    return {status: {"model": Problem, "description": _DESCRIPTIONS[status]} for status in statuses}


_ANSWER: _Responses = {
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
    str | None,
    Header(
        description="Si se repite con los mismos datos, se devuelve la misma respuesta.",
        json_schema_extra={"minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[^ \\t](.*[^ \\t])?$"},
    ),
]

PredictionId = Annotated[str, Path(json_schema_extra={"format": "uuid"})]

PatientReference = Annotated[
    str | None,
    Header(
        description=(
            "La referencia con la que el médico conoce al paciente, en UTF-8 y codificada con porcentajes; hasta 128 "
            "caracteres. Solo se guarda su hash; véase /referencias."
        ),
        examples=["HC%202026%2F0417"],
    ),
]


class _Served(Response):
    """A response that an ASGI application sends."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class GatewayDeps:
    """Dependencies of the routes; a body must arrive within `deadline_seconds`."""

    patient: type[Patient]
    predict: ASGIApp
    feedback: FeedbackHandler
    explainer: Explainer
    references: PatientReferences
    deadline_seconds: float


def gateway_router(deps: GatewayDeps) -> Router:
    """Build the routes. That of `POST /predecir` is documentation: `deps.predict` serves it."""
    patient = deps.patient
    # `read_json` enforces the limit, with an error in Spanish; the framework's error is in English.
    router = Router(tags=["predicción"], max_body_size=sys.maxsize)

    @router.post(
        "/predecir",
        roles={Role.MEDICO},
        summary=patient.disease.title,
        response_model=Respuesta,
        responses=_ANSWER | _rejections(*_DESCRIPTIONS),
        body=Body("DatosPaciente", patient_schema(patient)),
    )
    async def predecir(
        _: Request, idempotency_key: IdempotencyKey = None, referencia_paciente: PatientReference = None
    ) -> Response:
        del idempotency_key, referencia_paciente  # `predict` reads them; they are parameters for the documentation
        return _Served(deps.predict)

    @router.post(
        "/predicciones/{id}/resultado",
        roles={Role.MEDICO},
        summary="Confirmar o corregir una predicción",
        description="Se puede repetir: cuenta el último resultado, y se guardan todos.",
        response_model=ResultadoGuardado,
        responses=_ANSWER | _rejections(*_DESCRIPTIONS),
        body=Body("Resultado", feedback_schema(patient)),
    )
    async def resultado(
        id: PredictionId,  # noqa: A002 - the contract's name
        request: Request,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        del idempotency_key  # as above
        return _stored(*await deps.feedback.handle(id, request.scope, request.receive))

    @router.post(
        "/explicar",
        roles={Role.MEDICO},
        summary="Qué aportó cada dato de un paciente a la respuesta",
        description="Con los mismos datos que /predecir. No se guarda nada.",
        response_model=Explicacion,
        responses=_rejections(400, 408, 413, 415, 422, 503),
        body=Body("DatosPaciente", patient_schema(patient)),
    )
    async def explicar(request: Request) -> Response:
        body = await read_in_time(request.scope, request.receive, deps.deadline_seconds)
        explanation = await deps.explainer.explain(read_patient(body, patient))
        note_access(request.scope, rows=1)
        return JSONResponse(explanation)

    @router.post(
        "/referencias",
        roles={Role.MEDICO},
        summary="Hash de la referencia de un paciente, para buscar sus predicciones",
        description="Va en el cuerpo para que no quede en ninguna dirección. No se guarda nada.",
        response_model=HashDeReferencia,
        responses=_rejections(400, 408, 413, 415, 422),
        body=Body("Referencia", Referencia.model_json_schema()),
    )
    async def referencias(request: Request) -> Response:
        body = await read_in_time(request.scope, request.receive, deps.deadline_seconds)
        hashed = deps.references.of_body(body)
        note_access(request.scope, rows=1)
        return JSONResponse({"hash": hashed})

    return router


def _stored(content: bytes, confirmed: bool) -> Response:  # noqa: FBT001 - a property of the content
    return Response(content, headers=None if confirmed else {"confirmada": "false"}, media_type="application/json")
