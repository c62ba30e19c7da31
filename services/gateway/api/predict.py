"""`POST /predecir`: one patient in, one answer out; the answer is on disk before it is sent.

This is the hot path: an ASGI application that is served before the framework's layers; the framework documents it. It
costs a third of the same work inside the framework (see `docs/adr/0002-hot-path.md`).
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import Receive, Scope, Send

from services.gateway.admission import Admission
from services.gateway.api.answers import Answers
from services.gateway.api.patient_reference import PatientReferences
from services.gateway.api.requests import idempotency_key, read_json, read_patient
from services.gateway.ids import keyed_id, new_id
from services.gateway.outbox.database import IdempotencyRecord, request_hash
from services.gateway.rejections import no_model, not_arrived, unavailable
from shared.contracts.events import write_prediction
from shared.contracts.scoring import ModelUnavailableError, Scorer
from shared.patient import Patient
from shared.web.access_trail import note_access
from shared.web.authorization import caller_id
from shared.web.security_headers import SECURITY_HEADERS, UNSTORED

_HEADERS = ((b"content-type", b"application/json"), UNSTORED, *SECURITY_HEADERS)


class Predict:
    """Steps of one prediction; see `ARCHITECTURE.md`."""

    def __init__(  # noqa: PLR0913, PLR0917 - its parts
        self,
        patient: type[Patient],
        scorer: Scorer,
        admission: Admission,
        references: PatientReferences,
        deadline_seconds: float,
        registry: CollectorRegistry,
    ) -> None:
        """Combine the parts; one answer may take `deadline_seconds`."""
        self._patient, self._scorer, self._admission = patient, scorer, admission
        self._references, self._deadline = references, deadline_seconds
        self._defaults = {name: field.default for name, field in patient.model_fields.items()}
        self._answers = Answers(patient)
        self._answered = Counter("predecir_answers", "Answers sent", registry=registry)
        self._seconds = Histogram(
            "predecir_answer_seconds",
            "Time to answer",
            registry=registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            ProblemError: the request is rejected; nothing was sent.

        """
        started = time.perf_counter()
        content, confirmed = await self._answer(scope, receive)
        self._answered.inc()
        self._seconds.observe(time.perf_counter() - started)
        headers = [*_HEADERS, (b"content-length", b"%d" % len(content))]
        if not confirmed:
            headers.append((b"confirmada", b"false"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[bytes, bool]:
        key = idempotency_key(scope)
        reference = self._references.of_request(scope)
        patient = None
        try:
            async with asyncio.timeout(self._deadline):
                patient = read_patient(await read_json(scope, receive), self._patient)
                with self._admission.admitted(scope):
                    response = await self._stored_response(patient, scope, key, reference)
                    return response, await self._admission.delivered()
        except ModelUnavailableError as error:
            raise no_model(str(error)) from None
        except TimeoutError:
            if patient is None:
                raise not_arrived() from None
            raise unavailable("plazo", "No se pudo responder a tiempo; inténtelo de nuevo.") from None

    async def _stored_response(self, patient: Patient, scope: Scope, key: str | None, reference: str | None) -> bytes:
        """Score `patient`, store the answer, and return the response."""
        score = await self._scorer.score(patient.encode())
        caller = caller_id(scope)
        answer_id = new_id() if key is None else keyed_id(caller, key)
        answer = self._answers.make(answer_id, patient, score)
        response = orjson.dumps(answer)
        event = write_prediction(
            event_id=answer_id,
            source=self._admission.source,
            time=datetime.now(UTC).isoformat(),
            inputs=patient.__dict__,
            output=answer["prediccion"],
            score=score,
            reference=reference,
            plausible=answer["plausibles"],
            key_id=caller,
        )
        record = None
        if key is not None:  # with another reference it is another request
            entered = orjson.dumps(self._entered(patient), option=orjson.OPT_SORT_KEYS)
            request = entered + (reference or "").encode()
            record = IdempotencyRecord(answer_id, request_hash(request), response)
        earlier = await self._admission.store(event, record)
        note_access(scope, prediction=answer_id)
        return earlier or response

    def _entered(self, patient: Patient) -> dict[str, Any]:
        """Return the values that are not defaults, by name: the same for one request before and after a new column."""
        defaults = self._defaults  # that of a required field equals no value
        return {name: value for name, value in patient.__dict__.items() if value != defaults[name]}
