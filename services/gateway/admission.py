"""Admission of requests before any work is done for them, and storage of their answers in the outbox."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Gauge

from services.gateway.outbox.database import AnswerForgottenError, KeyReusedError
from services.gateway.outbox.outbox import OutboxError
from services.gateway.rejections import no_room, saturated, unavailable
from shared.web.load_shedding import take_place
from shared.web.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import CollectorRegistry
    from starlette.types import Scope

    from services.gateway.outbox.database import Keyed
    from services.gateway.outbox.disk_guard import Disk
    from services.gateway.outbox.outbox import Outbox
    from services.gateway.settings import GatewaySettings


class Admission:
    """Decides whether there is room for one more request; the load shedder and the routes ask the same object.

    There is room below the in-flight limit, while the outbox takes events and its disk has space.
    """

    def __init__(self, outbox: Outbox, disk: Disk, settings: GatewaySettings, registry: CollectorRegistry) -> None:
        """Store answers in `outbox`, which lies on `disk`."""
        self._outbox, self._disk, self._settings = outbox, disk, settings
        self._in_flight = 0
        self._log = structlog.get_logger()
        self.source = f"/gateway/{outbox.gateway_id}"
        """The `source` of events."""
        Gauge("predecir_requests_in_flight", "Requests being answered", registry=registry).set_function(
            lambda: self._in_flight
        )

    def enter(self) -> Callable[[], ProblemError] | None:
        """Take a place and return None, or return the function that makes the rejection."""
        if self._in_flight >= self._settings.gateway_max_in_flight:
            return saturated
        if self._outbox.pending >= self._settings.outbox_max_events or not self._disk.has_room():
            return no_room
        self._in_flight += 1
        return None

    def leave(self) -> None:
        """Give a place back."""
        self._in_flight -= 1

    @contextmanager
    def admitted(self, scope: Scope) -> Iterator[None]:
        """Hold a place for the request of `scope`: the one that the load shedder took for it, or a new one.

        Raises:
            ProblemError: 503, because there is no room.

        """
        if not take_place(scope) and (rejection := self.enter()) is not None:
            raise rejection()
        try:
            yield
        finally:
            self.leave()

    async def keep(self, event: bytes, keyed: Keyed | None) -> bytes | None:
        """Put `event` on disk; gives the response to repeat, if the key of `keyed` was answered before.

        Raises:
            ProblemError: 503 if it cannot be kept, 422 or 409 if its key was used before.

        """
        try:
            return await self._outbox.append(event, keyed)
        except KeyReusedError:
            detail = "Esta Idempotency-Key ya se usó con otros datos; use una nueva."
            raise ProblemError(422, "clave_reutilizada", detail) from None
        except AnswerForgottenError:
            known = "" if keyed is None else f"; su identificador es {keyed.id}"
            raise ProblemError(409, "ya_respondida", f"Esta petición ya se respondió hace tiempo{known}.") from None
        except OutboxError as error:
            self._disk.failed()
            self._log.error("answer_not_kept", reason=str(error))
            raise unavailable("sin_espacio", "La respuesta no se pudo guardar, así que no se da.") from None

    async def handed_over(self) -> bool:
        """Whether it got as far as ACK_POLICY asks; whatever it says, it is kept and will be handed over.

        Raises:
            ProblemError: 503 if it did not, and ACK_POLICY is `strict`.

        """
        policy = self._settings.ack_policy
        if policy == "local":
            return True
        try:
            async with asyncio.timeout(self._settings.ack_wait_ms / 1000):
                await self._outbox.handed_over()
        except TimeoutError:
            if policy == "strict":
                detail = "La respuesta está guardada, pero aún no confirmada; repita con la misma Idempotency-Key."
                raise unavailable("sin_confirmar", detail) from None
            return False
        return True
