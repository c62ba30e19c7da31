"""The trail of accesses: one log line for each accepted request that read or wrote patients' data.

A line has the id of the request's key, the route, the status, and the id of the prediction or the number of patients;
no value and no query. Requests without a key leave no line: there is nobody to name. Lines do not depend on LOG_LEVEL.

A line through structlog would cost a twentieth of an answer (`docs/adr/0006-access.md`), so lines are collected for a
moment and written together.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from starlette.types import Scope

from shared.telemetry import write_lines
from shared.web.authorization import caller_id

DELAY_SECONDS = 0.1
"""How long a line may wait for others. A process that is killed loses the lines of this time."""
MOST_LINES = 64
"""Lines that are written at once: about 12 KiB, so that a slow reader of the log delays no request for long."""
_ACCESS = "predecir.access"
_Line: TypeAlias = tuple[float, str, str, str, int | None, str, int]


def note_access(scope: Scope, *, prediction: str = "", rows: int = 0) -> None:
    """Note that the request of `scope` read or wrote one prediction, or the data of `rows` patients."""
    scope[_ACCESS] = prediction, rows


class AccessTrail:
    """Writes the lines of one process."""

    def __init__(self, service: str, write: Callable[[Sequence[dict[str, Any]]], None] = write_lines) -> None:
        """Write the lines of `service`."""
        self._service, self._write = service, write
        self._lines: list[_Line] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second, self._clock = 0, ""

    def add(self, scope: Scope, status: int | None) -> None:
        """Add the line of the request of `scope`, if it noted an access; `status` is None if no response was sent."""
        access = scope.get(_ACCESS)
        if access is None or not (caller := caller_id(scope)):
            return
        route = scope.get("route")  # a hot path has no parameters
        path = scope["path"] if route is None else route.path
        self._lines.append((time.time(), caller, scope["method"], path, status, *access))
        if len(self._lines) >= MOST_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_SECONDS, self.flush)

    def flush(self) -> None:
        """Write the collected lines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            self._write([self._event(line) for line in lines])

    def close(self) -> None:
        """Write the last lines."""
        self.flush()

    def _event(self, line: _Line) -> dict[str, Any]:
        moment, caller, method, path, status, prediction, rows = line
        event = {"caller": caller, "route": f"{method} {path}", "status": status}
        if prediction:
            event["prediction"] = prediction
        else:
            event["rows"] = rows
        event["event"] = "patients_accessed"
        event["level"] = "info"
        event["timestamp"] = self._written(moment)
        event["service"] = self._service
        return event

    def _written(self, moment: float) -> str:
        """Return `moment` as other log lines have it. Formatting takes longer than a line: do it once a second."""
        second = int(moment)
        if second != self._second:
            self._second, self._clock = second, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        return f"{self._clock}.{int((moment - second) * 1e6):06d}Z"
