"""From a delivery to the row it becomes, or to the reason why it becomes none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

import orjson

from shared.contracts.events import EventError, PredictionMade, read_event

if TYPE_CHECKING:
    from shared.contracts.transport import Delivery

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Row(NamedTuple):
    """One row of `predicciones` in the order of its columns, without `registrado`; then the event it came from."""

    id: str
    timestamp: datetime
    inputs: str
    output: str
    probabilidad: float
    probabilidades: str
    modelo: str
    modelo_version: str
    modelo_digest: str
    paciente_digest: str
    gateway_id: str
    seq: int
    hash: str
    referencia: str | None
    plausibles: str | None
    body: bytes


class OutcomeRow(NamedTuple):
    """One row of `resultados`, as `Row` is one of `predicciones`."""

    id: str
    timestamp: datetime
    prediccion_id: str
    aceptada: bool
    diagnostico: str | None
    motivo: str | None
    gateway_id: str
    seq: int
    hash: str
    body: bytes


AnyRow = Row | OutcomeRow


@dataclass(frozen=True, slots=True)
class Poison:
    """A delivery that cannot be recorded. `kind` counts in metrics, `reason` is a line without patient values."""

    kind: Literal["unreadable", "conflict", "refused"]
    reason: str
    gateway_id: str
    seq: int
    body: bytes
    event_id: str | None


def read_row(delivery: Delivery) -> AnyRow | Poison:
    """Read one delivery; both databases take the same ids: canonical lower-case UUIDs."""
    try:
        event = read_event(delivery.body)
        if not _UUID.fullmatch(event.id):
            return _unreadable(delivery, "its id is not a canonical UUID")
        moment = event.time.astimezone(UTC)
    except EventError as error:
        return _unreadable(delivery, str(error))
    except OverflowError:
        return _unreadable(delivery, "its time is out of range")
    if isinstance(event, PredictionMade):
        return _prediction(event, moment, delivery)
    if not _UUID.fullmatch(event.data.prediccion):
        return _unreadable(delivery, "its prediction is not a canonical UUID")
    return OutcomeRow(
        event.id,
        moment,
        event.data.prediccion,
        event.data.aceptada,
        event.data.diagnostico,
        event.data.motivo,
        delivery.gateway_id,
        delivery.seq,
        event.datahash,
        delivery.body,
    )


def _prediction(event: PredictionMade, moment: datetime, delivery: Delivery) -> Row:
    data = event.data
    model = data.modelo
    return Row(
        event.id,
        moment,
        orjson.dumps(data.inputs).decode(),
        data.output,
        data.probabilidad,
        orjson.dumps(data.probabilidades).decode(),
        model.nombre,
        model.version,
        model.digest,
        data.paciente,
        delivery.gateway_id,
        delivery.seq,
        event.datahash,
        data.referencia,
        None if data.plausibles is None else orjson.dumps(data.plausibles).decode(),
        delivery.body,
    )


def poisoned(row: AnyRow, kind: Literal["conflict", "refused"], reason: str) -> Poison:
    """Set aside a row that could be read."""
    return Poison(kind, reason, row.gateway_id, row.seq, row.body, row.id)


def _unreadable(delivery: Delivery, reason: str) -> Poison:
    event_id = _id_in(delivery.body)
    return Poison("unreadable", reason, delivery.gateway_id, delivery.seq, delivery.body, event_id)


def _id_in(body: bytes) -> str | None:
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    event_id = raw.get("id") if isinstance(raw, dict) else None
    return event_id if isinstance(event_id, str) and _UUID.fullmatch(event_id) else None
