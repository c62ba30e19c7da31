"""`POST /predicciones/{id}/resultado`: the doctor's feedback, which confirms or corrects an answer.

Feedback is stored like an answer. It may be recorded before its prediction, so it is not checked against one.
"""

import asyncio
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID

import orjson
from prometheus_client import CollectorRegistry, Counter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from starlette.types import Receive, Scope

from services.gateway.admission import Admission
from services.gateway.api.requests import idempotency_key, read_in_time
from services.gateway.ids import keyed_feedback_id, new_id
from services.gateway.outbox.database import IdempotencyRecord, request_hash
from services.gateway.rejections import unavailable
from shared.contracts.events import LONGEST_REASON, Feedback, write_feedback
from shared.patient import Patient, rule_broken
from shared.web.access_trail import note_access
from shared.web.authorization import caller_id
from shared.web.problems import ProblemError, invalid_form


def _storable(text: str | None) -> str | None:
    """Trim; an empty text is None. Control characters and surrogates are rejected: not every database stores them."""
    text = (text or "").replace("\r\n", "\n").strip()
    if any(unicodedata.category(char) in {"Cc", "Cs"} and char not in "\n\t" for char in text):
        raise rule_broken("motivo", "caracteres", "El motivo contiene caracteres que no se pueden guardar.")
    return text or None


class Resultado(BaseModel):
    """Lo que el médico dice de una predicción."""

    model_config = ConfigDict(extra="forbid", strict=True)

    aceptada: bool = Field(description="Si el diagnóstico respondido es el que corresponde.")
    diagnostico: str | None = Field(None, description="El que corresponde, si no es el respondido.")
    motivo: Annotated[str | None, AfterValidator(_storable)] = Field(
        None, max_length=LONGEST_REASON, description="Por qué, si se quiere decir."
    )

    @model_validator(mode="after")
    def _either_or(self, info: ValidationInfo) -> Self:
        if self.aceptada and self.diagnostico is not None:
            raise rule_broken("diagnostico", "sobra", "Si acepta la predicción, no indique otro diagnóstico.")
        if not self.aceptada and self.diagnostico is None:
            raise rule_broken("diagnostico", "obligatorio", "Indique el diagnóstico que corresponde.")
        if self.diagnostico is not None and info.context and self.diagnostico not in info.context:
            raise rule_broken("diagnostico", "opciones", "Elija uno de los diagnósticos posibles.")
        return self


class ResultadoGuardado(BaseModel):
    """El resultado, guardado; de varios para la misma predicción cuenta el último."""

    id: str = Field(description="Identificador de este resultado.")
    prediccion: str = Field(description="Identificador de la predicción.")
    aceptada: bool
    diagnostico: str | None


_SENTENCES = {
    "aceptada": "Indique si acepta la predicción: true o false.",
    "diagnostico": "Elija uno de los diagnósticos posibles.",
    "motivo": f"El motivo es un texto de {LONGEST_REASON} caracteres como máximo.",
}


def feedback_schema(patient: type[Patient]) -> dict[str, Any]:
    """Return the JSON schema of the body, with the diagnoses of `patient`."""
    schema = Resultado.model_json_schema()
    classes = patient.disease.classes
    schema["properties"]["diagnostico"]["anyOf"][0]["enum"] = list(classes)
    corrected = {"aceptada": False, "diagnostico": classes[-1], "motivo": "Lo confirma otra prueba."}
    return schema | {"examples": [{"aceptada": True}, corrected]}


class FeedbackHandler:
    """Handles feedback on the predictions of one disease."""

    def __init__(
        self, patient: type[Patient], admission: Admission, deadline_seconds: float, registry: CollectorRegistry
    ) -> None:
        """Accept the diagnoses of `patient`; reading and storing may take `deadline_seconds` each."""
        self._classes = frozenset(patient.disease.classes)
        self._admission, self._deadline = admission, deadline_seconds
        self._stored = Counter("predecir_outcomes", "Feedback stored", ["accepted"], registry=registry)
        for accepted in ("true", "false"):
            self._stored.labels(accepted)

    async def handle(self, prediction_id: str, scope: Scope, receive: Receive) -> tuple[bytes, bool]:
        """Store feedback; return the response, and whether it was delivered as ACK_POLICY requires.

        Raises:
            ProblemError: it is not valid, or cannot be stored now.

        """
        key = idempotency_key(scope)
        canonical_id = _canonical(prediction_id)
        feedback = self._validated(canonical_id, await read_in_time(scope, receive, self._deadline))
        try:
            async with asyncio.timeout(self._deadline):
                with self._admission.admitted(scope):
                    response = await self._stored_response(feedback, scope, key)
                    return response, await self._admission.delivered()
        except TimeoutError:
            raise unavailable("plazo", "No se pudo confirmar a tiempo que se guardó; repita.") from None

    def _validated(self, prediction_id: str, body: bytes) -> Feedback:
        try:
            sent = Resultado.model_validate_json(body, context=self._classes)
        except ValidationError as error:
            raise invalid_form(error, _SENTENCES) from None
        return Feedback(prediccion=prediction_id, **sent.model_dump())

    async def _stored_response(self, feedback: Feedback, scope: Scope, key: str | None) -> bytes:
        caller = caller_id(scope)
        feedback_id = new_id() if key is None else keyed_feedback_id(feedback.prediccion, caller, key)
        response = orjson.dumps({"id": feedback_id, **feedback.model_dump(exclude={"motivo"})})
        event = write_feedback(
            event_id=feedback_id,
            source=self._admission.source,
            time=datetime.now(UTC).isoformat(),
            feedback=feedback,
            key_id=caller,
        )
        hashed = request_hash(orjson.dumps(feedback.model_dump(exclude_none=True)))  # as before a new optional field
        earlier = await self._admission.store(
            event, None if key is None else IdempotencyRecord(feedback_id, hashed, response)
        )
        note_access(scope, prediction=feedback.prediccion)
        if earlier is None:
            self._stored.labels(str(feedback.aceptada).lower()).inc()
        return earlier or response


def _canonical(prediction_id: str) -> str:
    try:
        return str(UUID(prediction_id))
    except ValueError:
        listed = [{"campo": "id", "regla": "identificador", "mensaje": "No es el identificador de una predicción."}]
        raise ProblemError(422, "parametros", "Revise los parámetros indicados.", errors=listed) from None
