"""The event a prediction leaves behind, version 1: CloudEvents 1.0 attributes around what was asked and answered.

A version never changes. An optional addition keeps it; a rename, a removal or a new meaning is version + 1, with an
upcaster and a golden file (`tests/contract/golden/`). Writers are strict, readers ignore attributes they do not know.
"""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.model import Score

PREDICTION_MADE = "prediccion.realizada"
VERSION = 1


SCHEMA_ID = f"urn:predecir:evento:{PREDICTION_MADE}:v{VERSION}"


class EventError(Exception):
    """An event that cannot be read: the message says why, without its content."""


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ModelRef(_Read):
    """Which model computed the answer."""

    nombre: str
    version: str
    digest: str


class Answer(_Read):
    """What was asked and what was answered; the part of the event that `datahash` covers."""

    inputs: dict[str, Any]
    output: str
    probabilidad: float
    probabilidades: dict[str, float]
    modelo: ModelRef
    paciente: str


class PredictionMade(_Read):
    """A prediction that was given to a doctor. `id` is the prediction's; `datahash` is the SHA-256 of `data`."""

    specversion: Literal["1.0"]
    id: str
    type: Literal["prediccion.realizada"]
    version: Literal[1]
    source: str
    time: AwareDatetime
    datacontenttype: Literal["application/json"]
    datahash: str
    data: Answer


def write_prediction(  # noqa: PLR0913 - each is one fact of the event
    *,
    event_id: str,
    source: str,
    time: str,
    inputs: Mapping[str, Any],
    output: str,
    score: Score,
) -> bytes:
    """Serialise one `PredictionMade`; `time` is RFC 3339 with an offset.

    The hash covers question and answer but neither id nor time: two attempts at the same request by two gateways are
    the same payload, and another payload under the same id shows.
    """
    model = score.model
    probabilities = dict(zip(model.classes, score.probabilities, strict=True))
    data = orjson.dumps(
        {
            "inputs": inputs,
            "output": output,
            "probabilidad": probabilities[output],
            "probabilidades": probabilities,
            "modelo": {"nombre": model.name, "version": model.version, "digest": model.digest},
            "paciente": model.patient_digest,
        }
    )
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "type": PREDICTION_MADE,
            "version": VERSION,
            "source": source,
            "time": time,
            "datacontenttype": "application/json",
            "datahash": hashlib.sha256(data).hexdigest(),
            "data": orjson.Fragment(data),
        }
    )


def read_prediction(body: bytes) -> PredictionMade:
    """Read one event of any version this code knows, and check its hash.

    Raises:
        EventError: not JSON, not this type, an unknown version, a field missing or wrong, or a hash that does not hold.

    """
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        message = "not JSON"
        raise EventError(message) from None
    if not isinstance(raw, dict) or raw.get("type") != PREDICTION_MADE:
        message = f"not an event of type {PREDICTION_MADE}"
        raise EventError(message)
    if raw.get("version") != VERSION:
        message = f"unknown version of {PREDICTION_MADE}; this code reads {VERSION}"
        raise EventError(message)
    try:
        event = PredictionMade.model_validate(raw)
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors(include_input=False)}))
        message = f"fields missing or wrong: {where}"
        raise EventError(message) from None
    if hashlib.sha256(orjson.dumps(raw["data"])).hexdigest() != event.datahash:
        message = "its datahash does not hold"
        raise EventError(message)
    return event


def json_schema() -> bytes:
    """Describe what readers rely on, as JSON Schema; `python -m shared.events` prints it for `docs/events/`."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **PredictionMade.model_json_schema(),
    }
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    sys.stdout.buffer.write(json_schema())
