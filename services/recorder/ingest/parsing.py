"""Parsing of a delivery: it becomes a row, or a dead letter with the reason."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import orjson
import structlog

from services.recorder.db.rows import EventRow, FeedbackRow, PredictionRow
from shared.contracts.events import LARGEST_EVENT, EventError, FeedbackRegistered, PredictionMade, read_event
from shared.contracts.transport import Delivery

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that cannot be recorded and goes to quarantine.

    `kind` is its label in metrics. `reason` is one line without patient values. `event_id` is None if it is unreadable.
    `headers` are those of a whole message, as JSON.
    """

    kind: Literal["unreadable", "conflict", "refused", "unproven"]
    reason: str
    gateway_id: str
    seq: int
    body: bytes
    event_id: str | None
    headers: str | None = None


def read_row(delivery: Delivery, now: datetime, *, ahead: timedelta = timedelta()) -> EventRow | DeadLetter:
    """Return the row of a delivery that is recorded `now`. Its ids must be canonical lower-case UUIDs.

    The clock of its gateway may be `ahead` by more than `CLOCK_TOLERANCE`. Nothing is raised: an error that nobody
    foresaw concerns this event alone.
    """
    try:
        return _row(delivery, now, now + ahead)
    except EventError as error:
        return _unreadable(delivery, str(error))
    except Exception as error:  # noqa: BLE001 - raised, it would end every recorder that gets the message
        _log.error("event_unreadable", gateway_id=delivery.gateway_id, seq=delivery.seq, error=type(error).__name__)
        return _unreadable(delivery, f"reading it raised {type(error).__name__}")


def order_feedback(row: EventRow, received: datetime, place: int) -> None:
    """Set when feedback was recorded: at `received`, after that of a lower `place`. Of several, the last one counts."""
    if isinstance(row, FeedbackRow):
        row.registrado = received + timedelta(microseconds=place)


def _row(delivery: Delivery, now: datetime, clock: datetime) -> EventRow:
    event = read_event(delivery.body, clock)
    if not _UUID.fullmatch(event.id):
        raise EventError("its id is not a canonical UUID")
    moment = event.time if event.time.tzinfo is UTC else event.time.astimezone(UTC)
    if isinstance(event, PredictionMade):
        return _prediction(event, moment, delivery, now)
    if not _UUID.fullmatch(event.data.prediccion):
        raise EventError("its prediction is not a canonical UUID")
    return _feedback(event, moment, delivery, now)


def _prediction(event: PredictionMade, moment: datetime, delivery: Delivery, now: datetime) -> PredictionRow:
    data = event.data
    return PredictionRow(
        id=event.id,
        timestamp=moment,
        inputs=orjson.dumps(data.inputs).decode(),
        output=data.output,
        probabilidad=data.probabilidad,
        probabilidades=orjson.dumps(data.probabilidades).decode(),
        modelo=data.modelo.nombre,
        modelo_version=data.modelo.version,
        modelo_digest=data.modelo.digest,
        paciente_digest=data.paciente,
        gateway_id=delivery.gateway_id,
        seq=delivery.seq,
        hash=event.datahash,
        referencia=data.referencia,
        plausibles=None if data.plausibles is None else orjson.dumps(data.plausibles).decode(),
        registrado=now,
        clave_id=event.claveid,
        body=delivery.body,
    )


def _feedback(event: FeedbackRegistered, moment: datetime, delivery: Delivery, now: datetime) -> FeedbackRow:
    data = event.data
    return FeedbackRow(
        id=event.id,
        prediccion_id=data.prediccion,
        aceptada=data.aceptada,
        diagnostico=data.diagnostico,
        motivo=data.motivo,
        timestamp=moment,
        gateway_id=delivery.gateway_id,
        seq=delivery.seq,
        hash=event.datahash,
        registrado=now,
        clave_id=event.claveid,
        body=delivery.body,
    )


def dead_letter(row: EventRow, kind: Literal["conflict", "refused"], reason: str) -> DeadLetter:
    """Return the dead letter of a row that could be read but not recorded."""
    return DeadLetter(kind, reason, row.gateway_id, row.seq, row.body, row.id)


def _unreadable(delivery: Delivery, reason: str) -> DeadLetter:
    event_id = _id_in(delivery.body)
    return DeadLetter("unreadable", reason, delivery.gateway_id, delivery.seq, delivery.body, event_id)


def _id_in(body: bytes) -> str | None:
    if len(body) > LARGEST_EVENT:
        return None
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    event_id = raw.get("id") if isinstance(raw, dict) else None
    return event_id if isinstance(event_id, str) and _UUID.fullmatch(event_id) else None
