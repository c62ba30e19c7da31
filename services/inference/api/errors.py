"""What is refused under `/v2`, in the protocol's own error body, whether the framework serves a route or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from shared.contracts.open_inference import ProtocolError
from shared.contracts.scoring import ModelUnavailableError
from shared.telemetry import described
from shared.web.middleware import UNSTORED
from shared.web.problems import internal_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from fastapi import Request, Response
    from starlette.types import ASGIApp, Receive, Scope, Send


class UnknownError(Exception):
    """The model or version asked for is not the one that is served, or it lacks what is asked for."""


class TooLargeError(Exception):
    """The request has more bytes than the most rows can need."""


class OpenInferenceRoute(APIRoute):
    """Turns every refusal into the protocol's error body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Give the framework's handler, with refusals answered."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await _answered(handler(request))

        return handle


def ahead(answer: Callable[[Scope, Receive], Awaitable[Response]]) -> ASGIApp:
    """Make an application of `answer` to be served ahead of the framework; see `docs/adr/0002-hot-path.md`."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await _answered(answer(scope, receive))
        except Exception as error:  # noqa: BLE001 - the edge: whoever asked gets a 500, and the server would log values
            structlog.get_logger().error("request_failed", error=described(error))
            response = internal_error()
        response.raw_headers.append(UNSTORED)
        await response(scope, receive, send)

    return served


async def _answered(answer: Awaitable[Response]) -> Response:
    try:
        return await answer
    except ProtocolError as error:
        return _refusal(400, error)
    except UnknownError as error:
        return _refusal(404, error)
    except TooLargeError as error:
        return _refusal(413, error)
    except ModelUnavailableError as error:
        return _refusal(503, error)


def _refusal(status: int, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status)
