"""Edge middleware: checks address, Origin and API key of every request, and answers every error that is raised."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.web.access_trail import AccessTrail
from shared.web.authorization import Authorizer
from shared.web.problems import ProblemError
from shared.web.rejections import Rejections

UNSTORED = (b"cache-control", b"no-store")
"""The header of a response that no browser or proxy may store."""


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
            await self._rejections.response(problem, scope)(scope, receive, _unstored(send))
        except Exception as error:  # noqa: BLE001 - the server would log the error with its values
            status = 500
            self._rejections.note_failure(error)
            await self._rejections.failure_response(scope)(scope, receive, send)
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
            await self._app(scope, receive, _unstored(noting))
        except Exception as error:  # noqa: BLE001 - the framework has answered 500 and raises on; the server would log values
            self._rejections.note_failure(error)
        return status

    def _admit(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        host = headers[b"host"].lower() if b"host" in headers else None
        if host is not None and not self._is_ours(host):
            raise _foreign("host")
        if b"origin" in headers and headers[b"origin"].lower().partition(b"//")[2] != host:
            raise _foreign("origin")
        if scope["path"].endswith("/") and scope["path"] != "/":
            raise _slash()
        if self._authorizer is not None:
            self._authorizer.admit(scope, headers.get(b"authorization"))

    def _is_ours(self, host: bytes) -> bool:
        netloc = host.decode("latin-1")
        name = netloc if netloc.endswith("]") else netloc.rpartition(":")[0] or netloc
        return name in self._hosts


def _unstored(send: Send) -> Send:
    """Forbid browsers and proxies to store JSON and binary responses: they may be about patients."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            kind = headers.get(b"content-type", b"")
            if b"cache-control" not in headers and (b"json" in kind or b"octet-stream" in kind):
                message["headers"] = [*message["headers"], UNSTORED]
        await send(message)

    return sending


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
