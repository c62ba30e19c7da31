"""Error mapping under `/v2`: exceptions become the protocol's error body, inside and outside the framework."""

from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.contracts.open_inference import ProtocolError
from shared.contracts.scoring import ModelUnavailableError
from shared.web.problems import ProblemError
from shared.web.security_headers import SECURITY_HEADERS, UNSTORED


class OpenInferenceProblemError(ProblemError):
    """A rejection with the protocol's error body."""

    def response(self) -> Response:
        """Render as `ErrorBody`."""
        return JSONResponse({"error": self.detail}, self.status, self.headers)


_DETAILS: dict[int | str, str] = {
    "host_no_valido": "send one Host, with a number as port if any, and no other host in the address",
    "claves_no_validas": "this key is not valid, nor were many others from this address; wait a moment",
    "barra_final": "no address of this server ends with a slash; repeat the request without it",
    401: "send a valid key, as Authorization: Bearer KEY",
    403: "this key, host or origin may not do this",
    404: "unknown route; docs/reference/inference.md lists those of this server",
    429: "this key sends too many requests per second",
    500: "unexpected error; there is no result",
}


def translated(problem: ProblemError) -> ProblemError:
    """Return `problem` in the protocol's form; errors of the edge and the framework are in Spanish elsewhere."""
    if isinstance(problem, OpenInferenceProblemError):
        return problem
    detail = _DETAILS.get(problem.rule) or _DETAILS.get(problem.status) or HTTPStatus(problem.status).phrase.lower()
    return OpenInferenceProblemError(problem.status, problem.rule, detail, retry_after=problem.retry_after)


class OpenInferenceRoute(APIRoute):
    """A route that answers errors with the protocol's error body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the framework's handler, with the error mapping around it."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await _with_errors_mapped(handler(request))

        return handle


def hot_app(handler: Callable[[Scope, Receive], Awaitable[Response]]) -> ASGIApp:
    """Wrap `handler` as an ASGI application that bypasses the framework; see `docs/adr/0002-hot-path.md`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await _with_errors_mapped(handler(scope, receive))
        response.raw_headers += (UNSTORED, *SECURITY_HEADERS)
        await response(scope, receive, send)

    return app


async def _with_errors_mapped(response: Awaitable[Response]) -> Response:
    try:
        return await response
    except ProtocolError as error:
        raise OpenInferenceProblemError(400, "protocolo", str(error)) from None
    except ModelUnavailableError as error:
        raise OpenInferenceProblemError(503, "modelo", str(error)) from None
