"""What a gateway says of itself from time to time, version 1: how much it answered, and how far its outbox is.

Nothing is lost with one of these: the next one says all that it said. So it goes its own way beside the events, and
a recorder that does not know it yet never sees it.
"""

from __future__ import annotations

import sys
import uuid
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Literal

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared.contracts.event_batches import GATEWAY_ID
from shared.contracts.events import EventError
from shared.contracts.transport import OutboxState

if TYPE_CHECKING:
    from datetime import datetime

GATEWAY_STATE = "gateway.estado"
VERSION = 1
SCHEMA_ID = f"urn:predecir:evento:{GATEWAY_STATE}:v{VERSION}"
CONTENT_TYPE = "application/cloudevents+json"
_Count = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass(frozen=True, slots=True)
class Report:
    """The state of one gateway's outbox, and when, by its clock."""

    state: OutboxState
    time: datetime


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Data(_Read):
    """`respondidas`: its last `seq`; every `seq` below `pendiente_desde` has left its outbox."""

    gateway_id: Annotated[str, StringConstraints(pattern=f"^{GATEWAY_ID}$")]
    respondidas: _Count
    pendiente_desde: _Count


class _State(_Read):
    """How far the outbox of a gateway is, every half a minute or so."""

    type: Literal["gateway.estado"]
    version: Literal[1]
    time: AwareDatetime
    data: _Data


def write_report(report: Report) -> bytes:
    """Serialise `report` as a CloudEvent."""
    state = report.state
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "type": GATEWAY_STATE,
            "version": VERSION,
            "source": f"/gateway/{state.gateway_id}",
            "time": report.time.isoformat(),
            "datacontenttype": "application/json",
            "data": {
                "gateway_id": state.gateway_id,
                "respondidas": state.answered,
                "pendiente_desde": state.oldest_pending,
            },
        }
    )


def read_report(body: bytes) -> Report:
    """Read what `write_report` of any version this code knows wrote.

    Raises:
        EventError: it is none.

    """
    try:
        read = _State.model_validate_json(body)
        moment = read.time.astimezone(UTC)
    except (ValidationError, OverflowError):
        message = f"not an event of type {GATEWAY_STATE}, version {VERSION}"
        raise EventError(message) from None
    data = read.data
    return Report(OutboxState(data.gateway_id, data.respondidas, data.pendiente_desde), moment)


def json_schema() -> bytes:
    """Describe what readers rely on; `python -m shared.contracts.outbox_status` prints it for `docs/events/`."""
    draft = "https://json-schema.org/draft/2020-12/schema"
    schema = {"$schema": draft, "$id": SCHEMA_ID, **_State.model_json_schema(), "title": GATEWAY_STATE}
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    sys.stdout.buffer.write(json_schema())
