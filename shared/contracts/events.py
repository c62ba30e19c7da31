"""The events of a gateway, version 1: CloudEvents 1.0 attributes around one fact.

A version never changes. An optional addition keeps the version; a rename, a removal or a new meaning is version + 1,
with an upcaster and a golden file (`tests/contract/golden/`). Writers are strict; readers ignore unknown attributes.
They check the bounds below, which no event of a gateway exceeds: the sender may be another program with its rights.
"""

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from shared.contracts.scoring import ROUNDING, Score

PREDICTION_MADE = "prediccion.realizada"
FEEDBACK_REGISTERED = "resultado.registrado"
VERSION = 1
LARGEST_EVENT = 1 << 20
"""Bytes of an event. A request has a quarter of that at most."""
LONGEST_NAME = 500
"""Characters of a class, a version or a digest: in UTF-8 they fit into an entry of an index on every database."""
LONGEST_REASON = 500
"""Characters of a doctor's reason."""
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""A clock that lost its time begins here, so no gateway's clock shows less."""
CLOCK_TOLERANCE = timedelta(minutes=10)
"""How far the clock of a gateway may be ahead of that of the reader."""
_SCALARS = frozenset({float, int, bool, str, type(None)})
_MOST_NAMED = 20
"""Errors of an event whose fields are named."""


class EventError(Exception):
    """An event that cannot be read. The message is the reason, without the content of the event."""


_Name = Annotated[str, StringConstraints(max_length=LONGEST_NAME)]
_Probability = Annotated[float, Field(ge=-ROUNDING, le=1 + ROUNDING)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Data(_Frozen):
    model_config = ConfigDict(strict=True)


class ModelRef(_Data):
    """The model that computed the answer."""

    nombre: _Name
    version: _Name
    digest: _Name


class Answer(_Data):
    """A patient's data and the answer to them.

    `inputs` has numbers, texts, booleans and nulls only, as a patient class declares. `referencia` is the keyed hash of
    the doctor's reference to the patient. `plausibles` are the diagnoses that cannot be ruled out, likeliest first;
    older gateways omit them.
    """

    inputs: dict[str, Any]
    output: _Name
    probabilidad: _Probability
    probabilidades: dict[str, _Probability]
    modelo: ModelRef
    paciente: _Name
    referencia: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None = None
    plausibles: list[str] | None = None


class Feedback(_Data):
    """A doctor's feedback on an answer: accepted, or the right diagnosis. `prediccion` is the prediction's id."""

    prediccion: _Name
    aceptada: bool
    diagnostico: _Name | None
    motivo: Annotated[str, StringConstraints(max_length=LONGEST_REASON)] | None

    @model_validator(mode="after")
    def _has_diagnosis_unless_accepted(self) -> Self:
        if self.aceptada is not (self.diagnostico is None):
            raise ValueError("an accepted answer has no other diagnosis, and a rejected one has")
        return self


class _Event(_Frozen):
    specversion: Literal["1.0"]
    id: _Name
    type: str
    version: Literal[1]
    source: _Name
    time: AwareDatetime
    datacontenttype: Literal["application/json"]
    datahash: str
    claveid: Annotated[str, StringConstraints(pattern="^[0-9a-f]{1,64}$")] | None = None
    """The id of the API key of the request; absent if it needed none, and from older gateways."""


class PredictionMade(_Event):
    """A prediction that was answered. `id` is the prediction's; `datahash` is the SHA-256 of `data`."""

    type: Literal["prediccion.realizada"]
    data: Answer


class FeedbackRegistered(_Event):
    """A doctor confirmed or corrected a prediction. `id` is the feedback's; the feedback recorded last counts."""

    type: Literal["resultado.registrado"]
    data: Feedback


KINDS: Mapping[str, type[PredictionMade | FeedbackRegistered]] = {
    PREDICTION_MADE: PredictionMade,
    FEEDBACK_REGISTERED: FeedbackRegistered,
}
"""The class of each event type."""
_FIELDS = frozenset(
    name for kind in (PredictionMade, FeedbackRegistered, Answer, Feedback, ModelRef) for name in kind.model_fields
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
    key_id: str = "",
) -> bytes:
    """Serialise one `PredictionMade`. `time` is RFC 3339 with an offset. A fact that is None or empty is omitted.

    `inputs` are of a `Patient`, which has no -0.0: a database may store it as 0.0, and the hash would not hold.
    """
    model = score.model
    # Adding 0.0 changes -0.0 only.
    probabilities = {name: p + 0.0 for name, p in zip(model.classes, score.probabilities, strict=True)}
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
    return _serialised(PREDICTION_MADE, event_id, source, time, data, key_id)


def write_feedback(*, event_id: str, source: str, time: str, feedback: Feedback, key_id: str = "") -> bytes:
    """Serialise one `FeedbackRegistered`. `time` is RFC 3339 with an offset. An empty `key_id` is omitted."""
    return _serialised(FEEDBACK_REGISTERED, event_id, source, time, feedback.model_dump(), key_id)


def read_event(body: bytes, now: datetime | None = None) -> PredictionMade | FeedbackRegistered:
    """Parse one event of any known type and version, and check its bounds and its hash.

    Its time may be at most `CLOCK_TOLERANCE` after `now`, by default the time of this machine.

    Raises:
        EventError: it is not JSON, its type or version is unknown, a field is missing, wrong or out of its bounds, the
            answer is no class of its probabilities, or its hash differs.

    """
    if len(body) > LARGEST_EVENT:
        raise EventError(f"longer than {LARGEST_EVENT} bytes")
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise EventError("not JSON") from None
    name = raw.get("type") if isinstance(raw, dict) else None
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise EventError(f"not an event of type {' or '.join(KINDS)}")
    if raw.get("version") != VERSION:
        raise EventError(f"unknown version of {name}; this code reads {VERSION}")
    raw["time"] = _parsed_time(raw.get("time"))
    try:
        event = kind.model_validate(raw)
    except ValidationError as error:
        raise EventError(f"fields missing or wrong: {_wrong_fields(error)}") from None
    _check_time(event.time, now or datetime.now(UTC))
    if isinstance(event, PredictionMade):
        _check_answer(event.data)
    if _hash(raw["data"]) != event.datahash:
        raise EventError("its datahash does not hold")
    return event


def _parsed_time(time: object) -> object:
    """Return the datetime of a text of ISO 8601, which takes the model longer to parse; anything else as it is."""
    try:
        return datetime.fromisoformat(time)  # type: ignore[arg-type]  # the error is caught
    except (TypeError, ValueError):
        return time


def _check_time(time: datetime, now: datetime) -> None:
    if time < EARLIEST:
        raise EventError(f"its time is before {EARLIEST.year}")
    if time > now + CLOCK_TOLERANCE:
        minutes = CLOCK_TOLERANCE.seconds // 60
        raise EventError(f"its time is more than {minutes} minutes ahead of the clock here")


def _check_answer(data: Answer) -> None:
    """Check the parts of an answer against each other, and that `inputs` is flat."""
    probabilities = data.probabilidades
    if probabilities.get(data.output) != data.probabilidad:
        raise EventError("its output is no class of its probabilities, or has another probability there")
    for plausible in data.plausibles or ():
        if plausible not in probabilities:
            raise EventError("its plausible classes are not among its probabilities")
    if not _SCALARS.issuperset(map(type, data.inputs.values())):
        raise EventError("fields missing or wrong: data.inputs")


def _hash(data: Mapping[str, Any]) -> str:
    """Return the SHA-256 of `data`. Deeper than orjson writes, only an attribute that is ignored can be."""
    try:
        return hashlib.sha256(orjson.dumps(data)).hexdigest()
    except TypeError:
        raise EventError("nested too deeply") from None


def _wrong_fields(error: ValidationError) -> str:
    """Return the fields of an error; of very many only the number: to list them takes longer than to find them."""
    if error.error_count() > _MOST_NAMED:
        return f"{error.error_count()} of them"
    return ", ".join(sorted({_known_path(each["loc"]) for each in error.errors(include_input=False)}))


def _known_path(names: Iterable[str | int]) -> str:
    """Return the path of a field without unknown keys: the sender chose those, and they may contain even a NUL."""
    return ".".join(name for name in map(str, names) if name in _FIELDS)


def json_schema(name: str) -> bytes:
    """Return the JSON Schema of events of type `name`; `python -m shared.contracts.events NAME` prints it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:predecir:evento:{name}:v{VERSION}",
        **KINDS[name].model_json_schema(),
    }
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _serialised(kind: str, event_id: str, source: str, time: str, data: Mapping[str, Any], key_id: str) -> bytes:  # noqa: PLR0913, PLR0917 - the attributes
    """Wrap `data` in its CloudEvents envelope.

    The hash covers `data` but neither id, time nor key. Two gateways that answer the same request produce the same
    hash, and other data under the same id is detected.
    """
    content = orjson.dumps(data)
    event = {
        "specversion": "1.0",
        "id": event_id,
        "type": kind,
        "version": VERSION,
        "source": source,
        "time": time,
        "datacontenttype": "application/json",
        "datahash": hashlib.sha256(content).hexdigest(),
    }
    if key_id:
        event["claveid"] = key_id
    event["data"] = orjson.Fragment(content)
    return orjson.dumps(event)


if __name__ == "__main__":
    sys.stdout.buffer.write(json_schema(sys.argv[1]))
