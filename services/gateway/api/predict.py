"""`POST /predecir`: one patient in, one answer out, on disk before it is given.

This is the hot path: an ASGI application of its own, which the host serves ahead of the framework's middle layers and
the framework documents. It does the same work with a third of the layers' cost (see `docs/adr/0002-hot-path.md`).
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
import structlog
from prometheus_client import Counter, Histogram

from services.gateway.api.answers import Answers
from services.gateway.api.requests import idempotency_key, read_body, read_patient
from services.gateway.ids import keyed_id, new_id
from services.gateway.outbox.database import Keyed, request_hash
from services.gateway.rejections import not_arrived, unavailable
from shared.contracts.events import write_prediction
from shared.contracts.scoring import ModelUnavailableError
from shared.web.authorization import caller_id
from shared.web.middleware import UNSTORED

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from starlette.types import Receive, Scope, Send

    from services.gateway.admission import Admission
    from services.gateway.api.patient_reference import PatientReferences
    from shared.contracts.scoring import Scorer
    from shared.patient import Patient


class Predict:
    """The way of one prediction; see the design's seven steps in `ARCHITECTURE.md`."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts it brings together
        self,
        patient: type[Patient],
        scorer: Scorer,
        admission: Admission,
        references: PatientReferences,
        deadline_seconds: float,
        registry: CollectorRegistry,
    ) -> None:
        """Bring the parts together; one answer may take `deadline_seconds`."""
        self._patient, self._scorer, self._admission = patient, scorer, admission
        self._references, self._deadline = references, deadline_seconds
        self._answers = Answers(patient)
        self._log = structlog.get_logger()
        self._given = Counter("predecir_answers", "Answers given", registry=registry)
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
        self._given.inc()
        self._seconds.observe(time.perf_counter() - started)
        headers = [(b"content-type", b"application/json"), UNSTORED, (b"content-length", b"%d" % len(content))]
        if not confirmed:
            headers.append((b"confirmada", b"false"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[bytes, bool]:
        key = idempotency_key(scope["headers"])
        reference = self._references.of_headers(scope["headers"])
        patient = None
        try:
            async with asyncio.timeout(self._deadline):
                patient = read_patient(await read_body(scope, receive), self._patient)
                with self._admission.admitted(scope):
                    return await self._kept(
                        patient, caller_id(scope), key, reference
                    ), await self._admission.handed_over()
        except ModelUnavailableError as error:
            self._log.warning("model_unavailable", reason=str(error))
            raise unavailable("modelo", "El modelo no está disponible en este momento.") from None
        except TimeoutError:
            if patient is None:
                raise not_arrived() from None
            raise unavailable("plazo", "No se pudo responder a tiempo; inténtelo de nuevo.") from None

    async def _kept(self, patient: Patient, caller: str, key: str | None, reference: str | None) -> bytes:
        """Score `patient` and keep the answer; the response is given only after that."""
        score = await self._scorer.score(patient.encode())
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
        )
        keyed = None
        if key is not None:  # with another reference it is another request
            asked = orjson.dumps(patient.__dict__) + (reference or "").encode()
            keyed = Keyed(answer_id, request_hash(asked), response)
        return await self._admission.keep(event, keyed) or response
