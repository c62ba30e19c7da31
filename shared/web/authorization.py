"""Role-based authorisation by API key. A route is closed to every key that it does not name.

Keys travel as `Authorization: Bearer …` (RFC 6750). Routes declare their roles with `shared.web.routing.Router`.
"""

import ipaddress
import math
import time
from functools import lru_cache

from starlette.routing import compile_path
from starlette.types import Scope

from shared.web.api_keys import ApiKey, ApiKeyStore, Role
from shared.web.problems import ProblemError, http_problem
from shared.web.rate_limit import RateLimit
from shared.web.routing import NOBODY, Roles, RouteRoles

_CALLER, _ROLE, _KEYS_NEEDED = "predecir.caller", "predecir.role", "predecir.keys"
_WRONG_RATE, _WRONG_BURST, _MOST_SOURCES = 1, 10, 1024
"""Wrong keys that one source may send per second, and at once; sources that are remembered."""
_IPV6_NETWORK_BITS = 64
_RETRY_SECONDS = 1
_REMEMBERED_PATHS = 128
"""Paths whose roles are remembered, for speed."""


WRONG_KEY, WRONG_KEYS = "clave_no_valida", "claves_no_validas"
"""The rules of a wrong key, and of too many from one source."""


def source(scope: Scope) -> str:
    """Return the address that a request comes from, the network of an IPv6 address; empty if it is unknown."""
    client = scope.get("client")
    if client is None:
        return ""
    address = ipaddress.ip_address(client[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, _IPV6_NETWORK_BITS), strict=False))
        return str(address.ipv4_mapped)
    return str(address)


def caller_id(scope: Scope) -> str:
    """Return the id of the request's key; empty if it needed none."""
    caller: str = scope.get(_CALLER, "")
    return caller


def caller_role(scope: Scope) -> Role | None:
    """Return the role of the request's key; None if it needed none."""
    role: Role | None = scope.get(_ROLE)
    return role


def may_see_details(scope: Scope) -> bool:
    """Return whether a public response may have technical details: to an operator's key, or if no key is needed."""
    return not scope.get(_KEYS_NEEDED, False) or caller_role(scope) is Role.OPS


class Authorizer:
    """Authorises each request before any of it is served."""

    def __init__(self, keys: ApiKeyStore, roles: RouteRoles, limit: RateLimit) -> None:
        """Open each route to the `keys` of its `roles`. `limit` does not apply to keys of services."""
        self._keys, self._limit = keys, limit
        self._wrong = RateLimit(_WRONG_RATE, _WRONG_BURST, _MOST_SOURCES)
        self._patterns = [(method, compile_path(path)[0], declared) for (method, path), declared in roles.items()]
        self._roles = lru_cache(_REMEMBERED_PATHS)(self._matching)
        self._undeclared = NOBODY in roles.values()

    def admit(self, scope: Scope, authorization: bytes | None) -> None:
        """Authorise a request and store its caller in `scope`; `authorization` is the value of that header.

        Raises:
            ProblemError: 401 without a valid key; 403 if the route does not name the key's role, or declares no
                roles; 404 for an unknown route; 429 above the limit, or after many wrong keys of one source; 503 if
                the keys cannot be read.

        """
        self._keys.refresh()
        if not self._keys.required:
            if self._undeclared and self._roles(scope["method"], scope["path"]) == NOBODY:
                raise _forbidden()
            return
        roles = self._roles(scope["method"], scope["path"])
        if roles is not None and None in roles:
            self._note_caller(scope, authorization)
            return
        key = self._recognised(scope, authorization)
        scope[_CALLER], scope[_ROLE] = key.id, key.role
        if roles is None:
            raise http_problem(404)
        if key.role not in roles:
            raise _forbidden()
        if key.role is not Role.SERVICIO and (wait := self._limit.wait(key.id, time.monotonic())):
            detail = "Su clave hace demasiadas peticiones por segundo; espere un momento."
            raise ProblemError(429, "ritmo", detail, retry_after=math.ceil(wait))

    def _note_caller(self, scope: Scope, authorization: bytes | None) -> None:
        """Store the caller of a public route, if it sent a valid key."""
        scope[_KEYS_NEEDED] = True
        key = None if authorization is None or self._keys.failure is not None else self._keys.find(authorization)
        if key is not None:
            scope[_CALLER], scope[_ROLE] = key.id, key.role

    def _recognised(self, scope: Scope, authorization: bytes | None) -> ApiKey:
        if self._keys.failure is not None:
            detail = "Las claves no se pueden comprobar por el momento."
            raise ProblemError(503, "claves", detail, retry_after=_RETRY_SECONDS)
        if authorization is None:
            detail = "Hace falta una clave: envíe la cabecera Authorization con Bearer y su clave."
            raise ProblemError(401, "sin_clave", detail)
        key = self._keys.find(authorization)
        if key is None:
            raise self._wrong_key(scope)
        return key

    def _wrong_key(self, scope: Scope) -> ProblemError:
        """Return the rejection of a key that is not valid.

        Only such requests are counted by source. A valid key is served wherever it comes from: otherwise one client
        would lock out all others behind the same address.
        """
        detail = "La clave no es válida o ha sido revocada."
        if wait := self._wrong.wait(source(scope), time.monotonic()):
            detail += " Desde esta dirección llegan muchas claves no válidas; espere un momento."
            return ProblemError(429, WRONG_KEYS, detail, retry_after=math.ceil(wait))
        return ProblemError(401, WRONG_KEY, detail)

    def _matching(self, method: str, path: str) -> Roles | None:
        """Return the roles of the route, or None if there is no such route.

        Where several match, only roles of all of them: any may be served.
        """
        # The framework answers HEAD wherever it answers GET, if at all.
        declared = "GET" if method == "HEAD" else method
        matching = [roles for known, pattern, roles in self._patterns if known == declared and pattern.match(path)]
        return frozenset.intersection(*matching) if matching else None


def _forbidden() -> ProblemError:
    return ProblemError(403, "rol", "Su clave no permite esta operación.")
