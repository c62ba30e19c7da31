"""Error mapping of `/v2`: rejections have the protocol's error body, with and without the framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from shared.contracts.open_inference import ProtocolError
from shared.contracts.scoring import ModelUnavailableError
from shared.web.middleware import UNSTORED
from shared.web.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from fastapi import Request, Response
    from starlette.types import ASGIApp, Receive, Scope, Send


class UnknownError(Exception):
    """The model or version asked for is not the one that is served, or it lacks what is asked for."""


class TooLargeError(Exception):
    """The request has more bytes than the most rows can need."""


class OpenInferenceProblemError(ProblemError):
    """A rejection with the protocol's error body."""

    def response(self) -> Response:
        """Render as `ErrorBody`."""
        return JSONResponse({"error": self.detail}, self.status)


class OpenInferenceRoute(APIRoute):
    """A route whose rejections have the protocol's error body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the framework's handler, with translated errors."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await _translated(handler(request))

        return handle


def ahead(answer: Callable[[Scope, Receive], Awaitable[Response]]) -> ASGIApp:
    """Make an application of `answer` to be served ahead of the framework; see `docs/adr/0002-hot-path.md`."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        response = await _translated(answer(scope, receive))
        response.raw_headers.append(UNSTORED)
        await response(scope, receive, send)

    return served


async def _translated(answer: Awaitable[Response]) -> Response:
    try:
        return await answer
    except ProtocolError as error:
        raise OpenInferenceProblemError(400, "protocolo", str(error)) from None
    except UnknownError as error:
        raise OpenInferenceProblemError(404, "modelo_desconocido", str(error)) from None
    except TooLargeError as error:
        raise OpenInferenceProblemError(413, "tamano", str(error)) from None
    except ModelUnavailableError as error:
        raise OpenInferenceProblemError(503, "modelo", str(error)) from None
