"""Error mapping under `/v2`: exceptions become the protocol's error body, inside and outside the framework."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.contracts.open_inference import ProtocolError
from shared.contracts.scoring import ModelUnavailableError
from shared.web.middleware import UNSTORED
from shared.web.problems import ProblemError


class OpenInferenceProblemError(ProblemError):
    """A rejection with the protocol's error body."""

    def response(self) -> Response:
        """Render as `ErrorBody`."""
        return JSONResponse({"error": self.detail}, self.status)


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
        response.raw_headers.append(UNSTORED)
        await response(scope, receive, send)

    return app


async def _with_errors_mapped(response: Awaitable[Response]) -> Response:
    try:
        return await response
    except ProtocolError as error:
        raise OpenInferenceProblemError(400, "protocolo", str(error)) from None
    except ModelUnavailableError as error:
        raise OpenInferenceProblemError(503, "modelo", str(error)) from None
