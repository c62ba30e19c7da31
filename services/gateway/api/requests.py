"""Reading requests: the body within limits, the `Idempotency-Key` and the patient."""

import asyncio
import re
from typing import Any

from pydantic import ValidationError
from starlette.types import Receive, Scope

from services.gateway.rejections import not_arrived
from shared.patient import Patient
from shared.web.bodies import read_body
from shared.web.header_fields import header_fields
from shared.web.hosting import LARGEST_BODY
from shared.web.problems import ProblemError, invalid_data

DEEPEST = 32
"""Levels of nesting in a body; more is rejected before parsing."""
LONGEST_KEY = 255
"""Characters of an `Idempotency-Key`."""
_JSON = b"application/json"
# Possessive, with an optional closing quote: linear in the length of any input.
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"?|([\[{])|([\]}])', re.DOTALL)


def idempotency_key(scope: Scope) -> str | None:
    """Return the `Idempotency-Key` of a request, or None.

    Raises:
        ProblemError: 400, if there are several, or the length is not allowed.

    """
    if b"idempotency-key" not in header_fields(scope):
        return None
    values: list[bytes] = [value for name, value in scope["headers"] if name == b"idempotency-key"]
    if len(values) > 1 or not 0 < len(values[0]) <= LONGEST_KEY:
        raise ProblemError(400, "clave", f"Idempotency-Key: una sola, de 1 a {LONGEST_KEY} caracteres.")
    return values[0].decode("latin-1")


async def read_json(scope: Scope, receive: Receive) -> bytes:
    """Return a JSON body, not parsed.

    Raises:
        ProblemError: as `shared.web.bodies.read_body`; 415 another content type; 400 nested too deeply.

    """
    media_type = header_fields(scope).get(b"content-type", b"")
    if media_type != _JSON and media_type.partition(b";")[0].strip().lower() != _JSON:
        raise ProblemError(415, "tipo_de_contenido", "Envíe los datos como application/json.")
    body = await read_body(scope, receive, LARGEST_BODY)
    if body.count(b"{") + body.count(b"[") > DEEPEST and _depth(body) > DEEPEST:
        raise ProblemError(400, "anidamiento", f"El cuerpo tiene más de {DEEPEST} niveles.")
    return body


async def read_in_time(scope: Scope, receive: Receive, seconds: float) -> bytes:
    """Return a JSON body as `read_json` does, within `seconds`.

    Raises:
        ProblemError: as `read_json`; 408 if the body did not arrive in time.

    """
    try:
        async with asyncio.timeout(seconds):
            return await read_json(scope, receive)
    except TimeoutError:
        raise not_arrived() from None


def patient_schema(kind: type[Patient]) -> dict[str, Any]:
    """Return the JSON schema of a patient; the example is the middle of every reference range."""
    example: dict[str, Any] = {}
    for feature in kind.features:
        if feature.kind == "choice":
            example[feature.name] = feature.choices[0]
        elif feature.kind != "flag":
            low, high = feature.reference or feature.limits or (0, 1)
            middle = (low + high) / 2
            example[feature.name] = round(middle) if feature.kind == "integer" else float(f"{middle:.3g}")
    return kind.model_json_schema() | {"examples": [example]}


def read_patient(body: bytes, kind: type[Patient]) -> Patient:
    """Validate a body as a patient of class `kind`.

    Raises:
        ProblemError: 400 or 422, if it is not valid.

    """
    try:
        patient = kind.model_validate_json(body)
    except ValidationError as error:
        features = {feature.name: feature for feature in kind.features}
        raise invalid_data(error, features) from None
    # A valid patient is flat and no name or choice contains a colon, so there is one colon per field. Without this
    # check a second value of a field would silently replace the first.
    if body.count(b":") != len(patient.model_fields_set):
        raise ProblemError(422, "campo_repetido", "Un campo aparece más de una vez.")
    return patient


def _depth(body: bytes) -> int:
    deepest = depth = 0
    for match in _BRACKET.finditer(body):
        depth += (match[1] is not None) - (match[2] is not None)
        deepest = max(deepest, depth)
    return deepest
