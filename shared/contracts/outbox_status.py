"""The status event of a gateway's outbox, version 1: how much the gateway answered, and how much left the outbox.

A lost status loses nothing: the next one repeats it. It has a queue of its own beside the events, so a recorder that
does not know it never receives it.
"""

import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from shared.contracts.event_batches import GATEWAY_ID, LARGEST_SEQ
from shared.contracts.events import EARLIEST, EventError
from shared.contracts.transport import OutboxState

GATEWAY_STATE = "gateway.estado"
VERSION = 1
SCHEMA_ID = f"urn:predecir:evento:{GATEWAY_STATE}:v{VERSION}"
CONTENT_TYPE = "application/cloudevents+json"
_LARGEST_STATUS = 1 << 16
_Count = Annotated[int, Field(ge=0, le=LARGEST_SEQ, strict=True)]


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """The state of one gateway's outbox at `time`, by the gateway's clock."""

    state: OutboxState
    time: datetime


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Data(_Frozen):
    """`respondidas`: its last `seq`; every `seq` below `pendiente_desde` has left its outbox.

    `sustituido`: the outbox was restored from a copy that holds no later `seq`, and all it held has left it. Its
    gateway uses another id since.
    """

    gateway_id: Annotated[str, StringConstraints(pattern=f"^{GATEWAY_ID}$")]
    respondidas: _Count
    pendiente_desde: _Count
    sustituido: bool = False

    @model_validator(mode="after")
    def _is_next_at_most(self) -> Self:
        if self.pendiente_desde > self.respondidas + 1:
            raise ValueError("what was not answered cannot have left the outbox")
        return self


class _State(_Frozen):
    """The status of a gateway's outbox, sent about every half a minute."""

    type: Literal["gateway.estado"]
    version: Literal[1]
    time: AwareDatetime
    data: _Data


def write_status(status: OutboxStatus) -> bytes:
    """Serialise `status` as a CloudEvent."""
    state = status.state
    replaced = {"sustituido": True} if state.replaced else {}
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "type": GATEWAY_STATE,
            "version": VERSION,
            "source": f"/gateway/{state.gateway_id}",
            "time": status.time.isoformat(),
            "datacontenttype": "application/json",
            "data": {
                "gateway_id": state.gateway_id,
                "respondidas": state.answered,
                "pendiente_desde": state.oldest_pending,
                **replaced,
            },
        }
    )


def read_status(body: bytes) -> OutboxStatus:
    """Parse a status event of any known version. Its time may be ahead of the clock here.

    Raises:
        EventError: it is not one, or out of its bounds.

    """
    if len(body) > _LARGEST_STATUS:
        raise EventError(f"longer than {_LARGEST_STATUS} bytes")
    try:
        event = _State.model_validate_json(body)
        time = event.time.astimezone(UTC)
    except (ValidationError, OverflowError):
        raise EventError(f"not an event of type {GATEWAY_STATE}, version {VERSION}") from None
    if time < EARLIEST:
        raise EventError(f"its time is before {EARLIEST.year}")
    data = event.data
    state = OutboxState(data.gateway_id, data.respondidas, data.pendiente_desde, replaced=data.sustituido)
    return OutboxStatus(state, time)


def json_schema() -> bytes:
    """Return the JSON Schema of the event; `python -m shared.contracts.outbox_status` prints it for `docs/events/`."""
    draft = "https://json-schema.org/draft/2020-12/schema"
    schema = {"$schema": draft, "$id": SCHEMA_ID, **_State.model_json_schema(), "title": GATEWAY_STATE}
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    sys.stdout.buffer.write(json_schema())
