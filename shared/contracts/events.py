"""The events a gateway leaves behind, version 1: CloudEvents 1.0 attributes around a fact.

A version never changes. An optional addition keeps it; a rename, a removal or a new meaning is version + 1, with an
upcaster and a golden file (`tests/contract/golden/`). Writers are strict, readers ignore attributes they do not know.
"""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Any, Literal, Self

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from shared.contracts.scoring import Score

PREDICTION_MADE = "prediccion.realizada"
OUTCOME_REGISTERED = "resultado.registrado"
VERSION = 1


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
    """What was asked and what was answered.

    `referencia` is the keyed hash of the doctor's name for the patient; `plausibles` are the diagnoses that the doctor
    was told cannot be ruled out, likeliest first, absent from gateways that do not say.
    """

    inputs: dict[str, Any]
    output: str
    probabilidad: float
    probabilidades: dict[str, float]
    modelo: ModelRef
    paciente: str
    referencia: str | None = None
    plausibles: list[str] | None = None


class Outcome(_Read):
    """What a doctor says of an answer: that it holds, or which diagnosis does. `prediccion` is the prediction's id."""

    prediccion: str
    aceptada: bool
    diagnostico: str | None
    motivo: str | None

    @model_validator(mode="after")
    def _either_or(self) -> Self:
        if self.aceptada is not (self.diagnostico is None):
            raise ValueError("an accepted answer has no other diagnosis, and one that is not has")
        return self


class _Event(_Read):
    specversion: Literal["1.0"]
    id: str
    type: str
    version: Literal[1]
    source: str
    time: AwareDatetime
    datacontenttype: Literal["application/json"]
    datahash: str


class PredictionMade(_Event):
    """A prediction that was given to a doctor. `id` is the prediction's; `datahash` is the SHA-256 of `data`."""

    type: Literal["prediccion.realizada"]
    data: Answer


class OutcomeRegistered(_Event):
    """A doctor confirmed or corrected a prediction. `id` is the outcome's; of several the last counts."""

    type: Literal["resultado.registrado"]
    data: Outcome


KINDS: Mapping[str, type[PredictionMade | OutcomeRegistered]] = {
    PREDICTION_MADE: PredictionMade,
    OUTCOME_REGISTERED: OutcomeRegistered,
}
"""Every type of event, by its name."""
_FIELDS = frozenset(
    name for kind in (PredictionMade, OutcomeRegistered, Answer, Outcome, ModelRef) for name in kind.model_fields
)


def write_prediction(  # noqa: PLR0913 - each is one fact of the event
    *,
    event_id: str,
    source: str,
    time: str,
    inputs: Mapping[str, Any],
    output: str,
    score: Score,
    reference: str | None = None,
    plausible: Sequence[str] | None = None,
) -> bytes:
    """Serialise one `PredictionMade`; `time` is RFC 3339 with an offset; a fact that is None has no field."""
    model = score.model
    probabilities = dict(zip(model.classes, score.probabilities, strict=True))
    data: dict[str, Any] = {
        "inputs": inputs,
        "output": output,
        "probabilidad": probabilities[output],
        "probabilidades": probabilities,
        "modelo": {"nombre": model.name, "version": model.version, "digest": model.digest},
        "paciente": model.patient_digest,
    }
    if reference is not None:
        data["referencia"] = reference
    if plausible is not None:
        data["plausibles"] = plausible
    return _written(PREDICTION_MADE, event_id, source, time, data)


def write_outcome(*, event_id: str, source: str, time: str, outcome: Outcome) -> bytes:
    """Serialise one `OutcomeRegistered`; `time` is RFC 3339 with an offset."""
    return _written(OUTCOME_REGISTERED, event_id, source, time, outcome.model_dump())


def read_event(body: bytes) -> PredictionMade | OutcomeRegistered:
    """Read one event of any type and version this code knows, and check its hash.

    Raises:
        EventError: not JSON, an unknown type or version, a field missing or wrong, or a hash that does not hold.

    """
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        message = "not JSON"
        raise EventError(message) from None
    name = raw.get("type") if isinstance(raw, dict) else None
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        message = f"not an event of type {' or '.join(KINDS)}"
        raise EventError(message)
    if raw.get("version") != VERSION:
        message = f"unknown version of {name}; this code reads {VERSION}"
        raise EventError(message)
    try:
        event = kind.model_validate(raw)
    except ValidationError as error:
        where = ", ".join(sorted({_place(e["loc"]) for e in error.errors(include_input=False)}))
        message = f"fields missing or wrong: {where}"
        raise EventError(message) from None
    if hashlib.sha256(orjson.dumps(raw["data"])).hexdigest() != event.datahash:
        message = "its datahash does not hold"
        raise EventError(message)
    return event


def _place(names: Iterable[str | int]) -> str:
    """Name a field, without keys that a stranger may have chosen: they could hold anything, even a NUL."""
    return ".".join(name for name in map(str, names) if name in _FIELDS)


def json_schema(name: str) -> bytes:
    """Describe events of type `name` as JSON Schema; `python -m shared.contracts.events NAME` prints it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:predecir:evento:{name}:v{VERSION}",
        **KINDS[name].model_json_schema(),
    }
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _written(kind: str, event_id: str, source: str, time: str, data: Mapping[str, Any]) -> bytes:
    """Put `data` into its envelope.

    The hash covers what was said but neither id nor time: two attempts at the same request by two gateways are the
    same payload, and another payload under the same id shows.
    """
    content = orjson.dumps(data)
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "type": kind,
            "version": VERSION,
            "source": source,
            "time": time,
            "datacontenttype": "application/json",
            "datahash": hashlib.sha256(content).hexdigest(),
            "data": orjson.Fragment(content),
        }
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(json_schema(sys.argv[1]))
