"""Edge middleware: checks Host, Origin and API key of every request, and answers every error that is raised."""

import re
from collections.abc import Mapping
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.web.access_trail import AccessTrail
from shared.web.authorization import Authorizer
from shared.web.header_fields import header_fields
from shared.web.problems import ProblemError
from shared.web.rejections import Rejections
from shared.web.security_headers import UNSTORED, secured

_HOST = re.compile(rb"([^\s:/?#@\[\]]*|\[[0-9a-f:.]+\])(?::(\d{0,5}))?")
_LARGEST_PORT = 65535
_REMEMBERED_HOSTS = 128
"""Hosts that are remembered as ours, for speed."""


class EdgeMiddleware:
    """Passes admitted requests to a hot application or to the framework.

    Loopback is reachable from any browser tab. A page of another site can reach it by rebinding its own name to
    127.0.0.1 (DNS rebinding), which shows in `Host`, or by a plain cross-origin POST, which shows in `Origin`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - its parts
        self,
        app: ASGIApp,
        hot: Mapping[tuple[str, str], ASGIApp],
        allowed_hosts: str,
        rejections: Rejections,
        authorizer: Authorizer | None = None,
        trail: AccessTrail | None = None,
    ) -> None:
        """Serve `hot` by method and path, everything else by `app`, under the comma-separated `allowed_hosts`.

        Without an `authorizer` no request needs a key, and without a `trail` none is logged. A hot application raises
        before it sends anything, or answers with 200.
        """
        self._app, self._hot, self._rejections, self._authorizer = app, dict(hot), rejections, authorizer
        self._trail = trail
        self._hosts = frozenset(host.strip().lower() for host in allowed_hosts.split(","))
        self._checked = lru_cache(_REMEMBERED_HOSTS)(self._checked_host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or answer its rejection. The server passes on only HTTP."""
        status: int | None = None
        try:
            self._admit(scope)
            hot = self._hot.get((scope["method"], scope["path"]))
            if hot is None:
                status = await self._framework(scope, receive, send)
            else:
                await hot(scope, receive, send)
                status = 200
        except ProblemError as problem:
            status = problem.status
            await self._rejections.response(problem, scope)(scope, receive, _secured(send))
        except Exception as error:  # noqa: BLE001 - the server would log the error with its values
            status = 500
            self._rejections.note_failure(error)
            await self._rejections.failure_response(scope)(scope, receive, _secured(send))
        finally:  # also of a request that is cancelled
            if self._trail is not None:
                self._trail.add(scope, status)

    async def _framework(self, scope: Scope, receive: Receive, send: Send) -> int | None:
        """Serve the request by the framework; return the status of its response, or None if it sent none."""
        status: int | None = None

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, _secured(noting))
        except Exception as error:  # noqa: BLE001 - the framework has answered 500 and raises on; the server would log values
            self._rejections.note_failure(error)
        return status

    def _admit(self, scope: Scope) -> None:
        fields = header_fields(scope)
        host = self._host(scope, fields)
        if b"origin" in fields and fields[b"origin"].lower().partition(b"//")[2] != host:
            raise _foreign("origin")
        if scope["path"].endswith("/") and scope["path"] != "/":
            raise _slash()
        if self._authorizer is not None:
            self._authorizer.admit(scope, fields.get(b"authorization"))

    def _host(self, scope: Scope, fields: Mapping[bytes, bytes]) -> bytes | None:
        """Return the one Host of a request, in small letters; None if there is none, as HTTP/1.0 allows."""
        if len(fields) < len(scope["headers"]) and sum(name == b"host" for name, _ in scope["headers"]) > 1:
            raise _wrong_host()
        if b"host" not in fields:
            if scope["http_version"] == "1.0":
                return None
            raise _wrong_host()
        return self._checked(fields[b"host"].lower())

    def _checked_host(self, host: bytes) -> bytes:
        parts = _HOST.fullmatch(host)
        if parts is None or int(parts[2] or 0) > _LARGEST_PORT:
            raise _wrong_host()
        if parts[1].decode("latin-1") not in self._hosts:
            raise _foreign("host")
        return host


def _secured(send: Send) -> Send:
    """Add the security headers, and forbid to store JSON and binary responses: they may be about patients."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = secured(message["headers"])
            fields = dict(headers)
            kind = fields.get(b"content-type", b"")
            if b"cache-control" not in fields and (b"json" in kind or b"octet-stream" in kind):
                headers.append(UNSTORED)
            message["headers"] = headers
        await send(message)

    return sending


def _wrong_host() -> ProblemError:
    """Return the rejection of RFC 9112, 3.2: the next server could read another host than this one."""
    detail = "La petición debe llevar una sola cabecera Host, con un nombre y, si acaso, un puerto."
    return ProblemError(400, "host_no_valido", detail)


def _foreign(rule: str) -> ProblemError:
    detail = "Esta dirección no está permitida; abra el servicio por su propia dirección."
    return ProblemError(403, rule, detail)


def _slash() -> ProblemError:
    """Return the rejection of an address that no route has.

    A redirect would be answered with the scheme and host of this process: behind a TLS proxy a client would send the
    patient again without encryption.
    """
    detail = "Ninguna dirección de este servicio termina en «/»; quite la barra final y repita la petición."
    return ProblemError(404, "barra_final", detail)
