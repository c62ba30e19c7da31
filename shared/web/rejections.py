"""Rejections of every kind: counted by rule, and logged; while they go on, one line per period sums them up.

The edge middleware, the framework's error handlers and the server's protocol report to one `Rejections` per process.
A line names status, rule, the id of the key and a technical reason: never a value, a path or the key itself.
"""

import asyncio
import collections
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
from shared.web.authorization import WRONG_KEY, WRONG_KEYS, caller_id, source
from shared.web.problems import ProblemError, http_problem, internal_problem, invalid_parameters

Translations: TypeAlias = Mapping[str, Callable[[ProblemError], ProblemError]]
"""How a rejection becomes one in the form of another protocol, by the prefix of the protocol's paths, such as /v2."""

PERIOD_SECONDS = 10.0
"""Time that one line sums up while rejections go on."""
_INTERNAL = "interno"
_MOST_SOURCES = 10
"""Addresses with wrong keys in one line; the rest is summed up as `others`."""


@dataclass(slots=True)
class _Tally:
    """The rejections of one rule and caller; status and reason are those of the last one."""

    counter: Counter
    goes_on: bool = False
    unlogged: int = 0
    status: int = 0
    reason: str | None = None

    def is_first(self) -> bool:
        """Count one; return whether it is the first after a period without any, which gets a line of its own."""
        self.counter.inc()
        if self.goes_on:
            self.unlogged += 1
            return False
        self.goes_on = True
        return True


class Rejections:
    """Counts and logs rejected requests.

    The first of a rule and caller is logged at once. While more follow, one line per period has the counts of all.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        translations: Translations = MappingProxyType({}),
        period_seconds: float = PERIOD_SECONDS,
    ) -> None:
        """Count on `registry`."""
        self._translations = dict(translations)
        self._counter = Counter("predecir_refusals", "Requests rejected, by rule", ["rule"], registry=registry)
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self._sources: dict[str, int] = {}
        self._period_seconds = period_seconds
        self._period: asyncio.TimerHandle | None = None
        self._log = structlog.get_logger()

    def response(self, problem: ProblemError, scope: Scope) -> Response:
        """Count and log the rejection of the request of `scope`, and return its response."""
        self.note(problem, caller_id(scope), source(scope) if problem.rule in {WRONG_KEY, WRONG_KEYS} else "")
        return self._translated(problem, scope).response()

    def failure_response(self, scope: Scope) -> Response:
        """Return the response to the request of `scope` that failed by a defect of ours; see `note_failure`."""
        return self._translated(internal_problem(), scope).response()

    def note(self, problem: ProblemError, caller: str = "", address: str = "") -> None:
        """Count and log one rejection; `caller` is the id of its key, `address` the source of a wrong key."""
        tally = self._tally(problem.rule, caller)
        if tally.is_first():
            fields = {"caller": caller, "source": address, "reason": problem.reason, "rules": _rules(problem)}
            listed = {name: value for name, value in fields.items() if value}
            self._line(problem.status)("request_rejected", status=problem.status, rule=problem.rule, count=1, **listed)
            self._begin_period()
            return
        tally.status, tally.reason = problem.status, problem.reason
        if address:
            key = address if address in self._sources or len(self._sources) < _MOST_SOURCES else "others"
            self._sources[key] = self._sources.get(key, 0) + 1

    def note_failure(self, error: Exception) -> None:
        """Count and log a request that failed by a defect of ours: its place counts as caller."""
        place = described(error)
        tally = self._tally(_INTERNAL, place)
        tally.status = HTTPStatus.INTERNAL_SERVER_ERROR
        if tally.is_first():
            self._log.error("request_failed", error=place, count=1)
            self._begin_period()

    @property
    def goes_on(self) -> bool:
        """True while a period runs, at whose end a line may be due."""
        return self._period is not None

    def _begin_period(self) -> None:
        if self._period is None:
            self._period = asyncio.get_running_loop().call_later(self._period_seconds, self._end_period)

    def _end_period(self) -> None:
        """Log what the period added to lines of their own, and begin the next while anything goes on."""
        self._period = None
        unlogged = {key: tally for key, tally in self._tallies.items() if tally.unlogged}
        if unlogged:
            self._sum_up(unlogged)
            self._begin_period()
        for tally in self._tallies.values():
            tally.goes_on, tally.unlogged = tally.unlogged > 0, 0
        self._sources.clear()

    def _sum_up(self, unlogged: Mapping[tuple[str, str], _Tally]) -> None:
        counts, callers = collections.Counter[str](), collections.Counter[str]()
        for (rule, caller), tally in unlogged.items():
            counts[rule] += tally.unlogged
            if caller:
                callers[caller] += tally.unlogged
        reasons = {rule: tally.reason for (rule, _), tally in unlogged.items() if tally.reason}
        fields = {"callers": dict(callers), "sources": dict(self._sources), "reasons": reasons}
        self._line(max(tally.status for tally in unlogged.values()))(
            "requests_rejected",
            seconds=self._period_seconds,
            counts=dict(counts),
            **{name: value for name, value in fields.items() if value},
        )

    def _line(self, status: int) -> Callable[..., Any]:
        line: Callable[..., Any] = self._log.warning if status >= HTTPStatus.INTERNAL_SERVER_ERROR else self._log.info
        return line

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


def _rules(problem: ProblemError) -> list[str]:
    return sorted({error["regla"] for error in problem.errors or ()})


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
