"""`POST /predecir`: one patient in, one answer out, on disk before it is given.

This is the hot path: an ASGI application of its own, which the host serves ahead of the framework's middle layers and
the framework documents. It does the same work with a third of the layers' cost (see `docs/adr/0002-hot-path.md`).
"""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
import structlog
from prometheus_client import Counter, Gauge, Histogram
from pydantic import ValidationError

from services.gateway.answer import Answers
from services.gateway.identifiers import keyed_id, new_id
from services.gateway.outbox import OutboxError
from services.gateway.outbox_file import AnswerForgottenError, Keyed, KeyReusedError, request_hash
from shared.access import caller_id
from shared.events import write_prediction
from shared.hosting import LARGEST_BODY
from shared.model import ModelUnavailableError
from shared.problems import ProblemError, internal_error, invalid_data
from shared.telemetry import described

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry
    from starlette.types import Receive, Scope, Send

    from services.gateway.disk import Disk
    from services.gateway.outbox import Outbox
    from services.gateway.settings import GatewaySettings
    from shared.model import Scorer
    from shared.patient import Patient

DEEPEST = 32
"""Levels of nesting in a body; more is refused before it is parsed."""
LONGEST_KEY = 255
"""Characters of an `Idempotency-Key`."""

# Possessive, with the closing quote optional: linear in whatever is sent.
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"?|([\[{])|([\]}])', re.DOTALL)


class Predict:
    """The way of one prediction; see the design's seven steps in `ARCHITECTURE.md`."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts it brings together
        self,
        patient: type[Patient],
        scorer: Scorer,
        outbox: Outbox,
        disk: Disk,
        settings: GatewaySettings,
        registry: CollectorRegistry,
    ) -> None:
        """Bring the parts together."""
        self._patient, self._scorer, self._outbox, self._disk = patient, scorer, outbox, disk
        self._settings = settings
        self._features = {feature.name: feature for feature in patient.features}
        self._answers = Answers(patient)
        self._source = f"/gateway/{outbox.gateway_id}"
        self._in_flight = 0
        self._log = structlog.get_logger()
        self._given = Counter("predecir_answers", "Answers given", registry=registry)
        self._refused = Counter("predecir_refusals", "Requests refused, by rule", ["rule"], registry=registry)
        self._seconds = Histogram(
            "predecir_answer_seconds",
            "Time to answer",
            registry=registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5),
        )
        Gauge("predecir_requests_in_flight", "Requests being answered", registry=registry).set_function(
            lambda: self._in_flight
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = time.perf_counter()
        try:
            content, confirmed = await self._answer(scope, receive)
        except ProblemError as problem:
            self._refused.labels(problem.rule).inc()
            fields = sorted({error["regla"] for error in problem.errors or ()})
            self._log.info("request_refused", status=problem.status, rule=problem.rule, rules=fields)
            await problem.response()(scope, receive, send)
            return
        except Exception as error:  # noqa: BLE001 - the edge: whoever asked gets a 500, never a hanging request
            self._refused.labels("interno").inc()
            self._log.error("request_failed", error=described(error))
            await internal_error()(scope, receive, send)
            return
        self._given.inc()
        self._seconds.observe(time.perf_counter() - started)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        if not confirmed:
            headers.append((b"confirmada", b"false"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[bytes, bool]:
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            raise ProblemError(415, "tipo_de_contenido", "Envíe los datos como application/json.")
        key = _key(scope["headers"])
        patient = None
        try:
            async with asyncio.timeout(self._settings.gateway_deadline_seconds):
                patient = self._validated(await _body(headers, receive))
                return await self._admitted(patient, caller_id(scope), key)
        except ModelUnavailableError as error:
            self._log.warning("model_unavailable", reason=str(error))
            raise _unavailable("modelo", "El modelo no está disponible en este momento.") from None
        except TimeoutError:
            if patient is None:
                raise ProblemError(408, "cortada", "Los datos no terminaron de llegar a tiempo.") from None
            raise _unavailable("plazo", "No se pudo responder a tiempo; inténtelo de nuevo.") from None

    async def _admitted(self, patient: Patient, caller: str, key: str | None) -> tuple[bytes, bool]:
        """Refuse before any work is done for what could not be kept."""
        if self._in_flight >= self._settings.gateway_max_in_flight:
            raise _unavailable("saturado", "Hay demasiadas peticiones a la vez; inténtelo de nuevo.")
        if self._outbox.pending >= self._settings.outbox_max_events or not self._disk.has_room():
            raise _unavailable("sin_espacio", "No queda espacio para guardar la respuesta, así que no se da.")
        self._in_flight += 1
        try:
            return await self._kept(patient, caller, key), await self._handed_over()
        finally:
            self._in_flight -= 1

    async def _kept(self, patient: Patient, caller: str, key: str | None) -> bytes:
        """Score `patient` and keep the answer; the response is given only after that."""
        score = await self._scorer.score(patient.encode())
        answer_id = new_id() if key is None else keyed_id(caller, key)
        answer = self._answers.make(answer_id, patient, score)
        response = orjson.dumps(answer)
        event = write_prediction(
            event_id=answer_id,
            source=self._source,
            time=datetime.now(UTC).isoformat(),
            inputs=patient.__dict__,
            output=answer["prediccion"],
            score=score,
        )
        keyed = key and Keyed(answer_id, request_hash(orjson.dumps(patient.__dict__)), response)
        try:
            return await self._outbox.append(event, keyed or None) or response
        except KeyReusedError:
            detail = "Esta Idempotency-Key ya se usó con otros datos; use una nueva."
            raise ProblemError(422, "clave_reutilizada", detail) from None
        except AnswerForgottenError:
            detail = f"Esta petición ya se respondió hace tiempo; consulte la predicción {answer_id}."
            raise ProblemError(409, "ya_respondida", detail) from None
        except OutboxError as error:
            self._disk.failed()
            self._log.error("answer_not_kept", reason=str(error))
            raise _unavailable("sin_espacio", "La respuesta no se pudo guardar, así que no se da.") from None

    async def _handed_over(self) -> bool:
        """Whether the answer got as far as ACK_POLICY asks; whatever it says, the answer is kept and handed over."""
        policy = self._settings.ack_policy
        if policy == "local":
            return True
        try:
            async with asyncio.timeout(self._settings.ack_wait_ms / 1000):
                await self._outbox.handed_over()
        except TimeoutError:
            if policy == "strict":
                detail = "La respuesta está guardada, pero aún no confirmada; repita con la misma Idempotency-Key."
                raise _unavailable("sin_confirmar", detail) from None
            return False
        return True

    def _validated(self, body: bytes) -> Patient:
        if body.count(b"{") + body.count(b"[") > DEEPEST and _depth(body) > DEEPEST:
            raise ProblemError(400, "anidamiento", f"El cuerpo tiene más de {DEEPEST} niveles.")
        try:
            patient = self._patient.model_validate_json(body)
        except ValidationError as error:
            raise invalid_data(error.errors(include_url=False, include_input=False), self._features) from None
        # A valid patient is flat and no name or choice contains a colon, so there is one per field; a second value
        # for a field would otherwise silently replace the first.
        if body.count(b":") != len(patient.model_fields_set):
            raise ProblemError(422, "campo_repetido", "Un campo aparece más de una vez.")
        return patient


def _unavailable(rule: str, detail: str) -> ProblemError:
    return ProblemError(503, rule, detail, retry_after=1)


def _key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    given = [value for name, value in headers if name == b"idempotency-key"]
    if not given:
        return None
    if len(given) > 1 or not 0 < len(given[0]) <= LONGEST_KEY:
        raise ProblemError(400, "clave", f"Idempotency-Key: una sola, de 1 a {LONGEST_KEY} caracteres.")
    return given[0].decode("latin-1")


async def _body(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    if int(headers.get(b"content-length", b"0")) > LARGEST_BODY:
        raise _too_large()
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProblemError(400, "cortada", "La petición llegó incompleta.")
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            raise _too_large()
        more = message.get("more_body", False)
    return body


def _too_large() -> ProblemError:
    return ProblemError(413, "tamano", f"El cuerpo supera {LARGEST_BODY // 1024} KiB.")


def _depth(body: bytes) -> int:
    deepest = depth = 0
    for match in _BRACKET.finditer(body):
        depth += (match[1] is not None) - (match[2] is not None)
        deepest = max(deepest, depth)
    return deepest
