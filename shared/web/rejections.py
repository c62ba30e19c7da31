"""Rejections of every kind: counted by rule, and logged at most once a second for each rule and caller.

The edge middleware, the framework's error handlers and the server's protocol report to one `Rejections` per process.
A line names status, rule, the id of the key and a technical reason: never a value, a path or the key itself.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, TypeAlias

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry, Counter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from shared.telemetry import described
from shared.web.authorization import caller_id
from shared.web.problems import ProblemError, http_problem, internal_problem, invalid_parameters

Translations: TypeAlias = Mapping[str, Callable[[ProblemError], ProblemError]]
"""How a rejection becomes one in the form of another protocol, by the prefix of the protocol's paths, such as /v2."""

_LINE_SECONDS = 1.0
_INTERNAL = "interno"


@dataclass(slots=True)
class _Tally:
    """The rejections of one rule and caller."""

    counter: Counter
    unlogged: int = 0
    next_line: float = 0.0

    def add(self) -> int:
        """Count one; return the count since the last line if a line is due, else 0."""
        self.counter.inc()
        self.unlogged += 1
        now = time.monotonic()
        if now < self.next_line:
            return 0
        self.next_line = now + _LINE_SECONDS
        count, self.unlogged = self.unlogged, 0
        return count


class Rejections:
    """Counts and logs rejected requests. The counter is exact; the last line of a burst may lack its tail."""

    def __init__(self, registry: CollectorRegistry, translations: Translations = MappingProxyType({})) -> None:
        """Count on `registry`."""
        self._translations = dict(translations)
        self._counter = Counter("predecir_refusals", "Requests rejected, by rule", ["rule"], registry=registry)
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self._log = structlog.get_logger()

    def response(self, problem: ProblemError, scope: Scope) -> Response:
        """Count and log the rejection of the request of `scope`, and return its response."""
        self.note(problem, caller_id(scope))
        return self._translated(problem, scope).response()

    def failure_response(self, scope: Scope) -> Response:
        """Return the response to the request of `scope` that failed by a defect of ours; see `note_failure`."""
        return self._translated(internal_problem(), scope).response()

    def note(self, problem: ProblemError, caller: str = "") -> None:
        """Count and log one rejection; `caller` is the id of the request's key."""
        if not (count := self._tally(problem.rule, caller).add()):
            return
        log = self._log.warning if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else self._log.info
        fields: dict[str, Any] = {"caller": caller} if caller else {}
        if problem.reason is not None:
            fields["reason"] = problem.reason
        if problem.errors:
            fields["rules"] = sorted({error["regla"] for error in problem.errors})
        log("request_rejected", status=problem.status, rule=problem.rule, count=count, **fields)

    def note_failure(self, error: Exception) -> None:
        """Count and log a request that failed by a defect of ours."""
        place = described(error)
        if count := self._tally(_INTERNAL, place).add():
            self._log.error("request_failed", error=place, count=count)

    def _translated(self, problem: ProblemError, scope: Scope) -> ProblemError:
        for prefix, translate in self._translations.items():
            if f"{scope['path']}/".startswith(f"{prefix}/"):
                return translate(problem)
        return problem

    def _tally(self, rule: str, source: str) -> _Tally:
        tally = self._tallies.get((rule, source))
        if tally is None:
            tally = self._tallies[rule, source] = _Tally(self._counter.labels(rule))
        return tally


def handle_errors(app: FastAPI, rejections: Rejections) -> None:
    """Make every error response of `app` a problem in Spanish, noted in `rejections`."""

    async def rejected(request: Request, error: Exception) -> Response:
        if isinstance(error, ProblemError):
            return rejections.response(error, request.scope)
        return rejections.failure_response(request.scope)

    async def http_error(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        response = rejections.response(http_problem(status), request.scope)
        response.headers.update(getattr(error, "headers", None) or {})  # such as Allow
        return response

    async def bad_parameters(request: Request, error: Exception) -> Response:
        details = error.errors() if isinstance(error, RequestValidationError) else []
        problem = invalid_parameters({str(detail["loc"][-1]): detail["type"] for detail in details})
        return rejections.response(problem, request.scope)

    app.add_exception_handler(ProblemError, rejected)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, bad_parameters)
    app.add_exception_handler(Exception, rejected)
