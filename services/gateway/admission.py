"""Admission of requests before any work is done for them, and storage of their answers in the outbox."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge
from starlette.types import Scope

from services.gateway.outbox.database import IdempotencyKeyReusedError, IdempotencyRecord
from services.gateway.outbox.disk_guard import DiskGuard
from services.gateway.outbox.outbox import Outbox, OutboxError
from services.gateway.rejections import no_room, saturated, unavailable, unwritable
from shared.web.load_shedding import take_place
from shared.web.problems import ProblemError

AckPolicy = Literal["local", "broker", "strict"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Most requests `in_flight` and most `events` in the outbox; how long an answer waits for its delivery."""

    in_flight: int
    events: int
    ack_policy: AckPolicy
    ack_seconds: float


class Admission:
    """Decides whether there is room for one more request; the load shedder and the routes ask the same object.

    There is room below the in-flight limit, while the outbox takes events and its disk has space.
    """

    def __init__(self, outbox: Outbox, disk: DiskGuard, limits: Limits, registry: CollectorRegistry) -> None:
        """Store answers in `outbox`, which lies on `disk`."""
        self._outbox, self._disk, self._limits = outbox, disk, limits
        self._in_flight = 0
        self.source = f"/gateway/{outbox.gateway_id}"
        """The `source` of events."""
        Gauge("predecir_requests_in_flight", "Requests being answered", registry=registry).set_function(
            lambda: self._in_flight
        )

    def enter(self) -> Callable[[], ProblemError] | None:
        """Take a place and return None, or return the function that makes the rejection."""
        if self._in_flight >= self._limits.in_flight:
            return saturated
        if self._outbox.pending >= self._limits.events:
            return no_room
        if not self._disk.has_room():
            return no_room if self._disk.failure is None else partial(unwritable, self._disk.failure)
        self._in_flight += 1
        return None

    def leave(self) -> None:
        """Release a place."""
        self._in_flight -= 1

    @contextmanager
    def admitted(self, scope: Scope) -> Iterator[None]:
        """Occupy a place meanwhile for the request of `scope`: the one that the load shedder took for it, or a new one.

        Raises:
            ProblemError: 503, because there is no room.

        """
        if not take_place(scope) and (rejection := self.enter()) is not None:
            raise rejection()
        try:
            yield
        finally:
            self.leave()

    async def store(self, event: bytes, record: IdempotencyRecord | None) -> bytes | None:
        """Write `event` to the outbox; return the earlier response if the key of `record` was answered before.

        Raises:
            ProblemError: 503 if it cannot be written, 422 if its key was used with another request.

        """
        try:
            return await self._outbox.append(event, record)
        except IdempotencyKeyReusedError:
            detail = "Esta Idempotency-Key ya se usó con otros datos; use una nueva."
            raise ProblemError(422, "clave_reutilizada", detail) from None
        except OutboxError as error:
            self._disk.failed(None if error.full else str(error))
            raise (no_room(str(error)) if error.full else unwritable(str(error))) from None

    async def delivered(self) -> bool:
        """Wait as ACK_POLICY requires; return whether that was reached. The event is stored and is relayed anyway.

        Raises:
            ProblemError: 503 if it was not reached, and ACK_POLICY is `strict`.

        """
        policy = self._limits.ack_policy
        if policy == "local":
            return True
        try:
            async with asyncio.timeout(self._limits.ack_seconds):
                await self._outbox.delivered()
        except TimeoutError:
            if policy == "strict":
                detail = "La respuesta está guardada, pero aún no confirmada; repita con la misma Idempotency-Key."
                raise unavailable("sin_confirmar", detail) from None
            return False
        return True
