"""Who may come in where: a key opens the routes of its role, and a route that nobody listed stays shut.

Keys travel as `Authorization: Bearer …` (RFC 6750). Each service lists the roles of its routes beside them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import structlog
from starlette.routing import compile_path

from shared.web.api_keys import Role
from shared.web.problems import ProblemError

if TYPE_CHECKING:
    from re import Pattern

    from starlette.types import Scope

    from shared.web.api_keys import ApiKeyStore, Key

Allowed: TypeAlias = frozenset[Role | None]
"""The roles that a route is open to; None is whoever has no key."""
Access: TypeAlias = Mapping[tuple[str, str], Allowed]
"""Who may use a route, by method and path as the framework has it, such as ("GET", "/predicciones/{id}")."""

PUBLIC: Allowed = frozenset({None, *Role})
"""Open to everybody, key or not."""
PEOPLE: Allowed = frozenset({Role.MEDICO, Role.ANALISTA, Role.OPS})
"""Open to every key that a person holds."""

_CALLER, _ROLE = "predecir.caller", "predecir.role"
_RETRY_SECONDS = 1


def caller_id(scope: Scope) -> str:
    """Give the id of the key that a request came with; empty if it needed none."""
    caller: str = scope.get(_CALLER, "")
    return caller


def caller_role(scope: Scope) -> Role | None:
    """Give the role of the key that a request came with; None if it needed none."""
    role: Role | None = scope.get(_ROLE)
    return role


class RateLimit:
    """A token bucket per caller, as the generic cell rate algorithm of ITU-T I.371 keeps it: one number each.

    It counts what this process serves: with n replicas behind a balancer the limit is up to n times as high.
    """

    def __init__(self, rate: float, burst: int) -> None:
        """Let each caller make `rate` requests per second (0: any number), and `burst` at once after a rest."""
        self._interval = 1 / rate if rate else 0.0
        # Half a request of slack, so that sums of rounded intervals never cost the last of a burst.
        self._ahead = self._interval * (burst - 0.5)
        self._full_at: dict[str, float] = {}

    def wait(self, caller: str, now: float) -> float:
        """Count a request made at `now`; gives 0, or the seconds to wait if it is one too many and not counted."""
        full_at = max(self._full_at.get(caller, now), now)
        too_early = full_at - now - self._ahead
        if too_early > 0:
            return too_early
        self._full_at[caller] = full_at + self._interval
        return 0.0


class Authorizer:
    """Decides on each request before any of it is served."""

    def __init__(self, keys: ApiKeyStore, access: Access, limit: RateLimit) -> None:
        """Open the routes of `access` to the holders of `keys`; keys of services have no `limit`."""
        self._keys, self._limit = keys, limit
        self._literal, self._patterns = _compiled(access)
        self._log = structlog.get_logger()

    def admit(self, scope: Scope, authorization: bytes | None) -> None:
        """Let a request in and note its caller in `scope`; `authorization` is the value of that header.

        Raises:
            ProblemError: 401 without a key that holds, 403 with one of another role, 404 for a route that is not
                listed, 429 above the limit, 503 if the keys cannot be read.

        """
        self._keys.refresh()
        if not self._keys.required:
            return
        method, path = scope["method"], scope["path"]
        allowed = self._literal.get((method, path)) or self._matching(method, path)
        if allowed is not None and None in allowed:
            return
        key = self._recognised(authorization)
        if allowed is None:
            raise self._refused(ProblemError(404, "http", "No encontrado."), key)
        if key.role not in allowed:
            raise self._refused(ProblemError(403, "rol", "Su clave no permite esta operación."), key)
        if key.role is not Role.SERVICIO and (wait := self._limit.wait(key.id, time.monotonic())):
            detail = "Su clave hace demasiadas peticiones por segundo; espere un momento."
            raise self._refused(ProblemError(429, "ritmo", detail, retry_after=math.ceil(wait)), key)
        scope[_CALLER], scope[_ROLE] = key.id, key.role

    def _recognised(self, authorization: bytes | None) -> Key:
        if self._keys.trouble is not None:
            detail = "Las claves no se pueden comprobar por el momento."
            raise self._refused(ProblemError(503, "claves", detail, retry_after=_RETRY_SECONDS))
        if authorization is None:
            detail = "Hace falta una clave: envíe la cabecera Authorization con Bearer y su clave."
            raise self._refused(ProblemError(401, "sin_clave", detail))
        key = self._keys.find(authorization)
        if key is None:
            raise self._refused(ProblemError(401, "clave_no_valida", "La clave no es válida o ha sido revocada."))
        return key

    def _refused(self, problem: ProblemError, key: Key | None = None) -> ProblemError:
        self._log.info("request_refused", status=problem.status, rule=problem.rule, caller=key and key.id)
        return problem

    def _matching(self, method: str, path: str) -> Allowed | None:
        """Look among the paths with parameters; where several match, all must allow, whichever one is served."""
        # The framework answers HEAD wherever it answers GET, if at all.
        asked = "GET" if method == "HEAD" else method
        found = [allowed for known, pattern, allowed in self._patterns if known == asked and pattern.match(path)]
        return frozenset.intersection(*found) if found else None


def _compiled(access: Access) -> tuple[dict[tuple[str, str], Allowed], list[tuple[str, Pattern[str], Allowed]]]:
    """Split into paths to look up, for speed, and all paths as patterns."""
    patterns = [(method, compile_path(path)[0], allowed) for (method, path), allowed in access.items()]
    literal = {
        (method, path): frozenset.intersection(
            *(a for m, pattern, a in patterns if m == method and pattern.match(path))
        )
        for method, path in access
        if "{" not in path
    }
    return literal, patterns
