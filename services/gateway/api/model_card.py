"""`GET /modelo/ficha`: the card of the serving model, with a Content-Security-Policy for its own styles only.

It is public, like the page that links to it: it holds no data of patients.
"""

import asyncio

from fastapi.responses import HTMLResponse

from services.gateway.page.routes import HEADERS
from shared.contracts.scoring import Cards, ModelUnavailableError
from shared.web.problems import Problem, ProblemError
from shared.web.routing import PUBLIC, Router
from shared.web.security_headers import styles_policy

_HEADERS = {name: value for name, value in HEADERS.items() if name != "Cross-Origin-Opener-Policy"}
"""Those of a page; browsers open no sandboxed one with an opener policy, and it has an origin of its own anyway."""


def card_router(cards: Cards, deadline_seconds: float) -> Router:
    """Build the route; `cards` may take `deadline_seconds`."""
    router = Router(tags=["modelo"])

    @router.get(
        "/modelo/ficha",
        roles=PUBLIC,
        summary="La ficha del modelo que responde ahora",
        response_class=HTMLResponse,
        responses={
            404: {"model": Problem, "description": "Esta versión no tiene ficha"},
            503: {"model": Problem, "description": "Ahora no hay ningún modelo"},
        },
    )
    async def ficha() -> HTMLResponse:
        try:
            async with asyncio.timeout(deadline_seconds):
                card = await cards.card()
        except (ModelUnavailableError, TimeoutError) as error:
            detail = "La ficha del modelo no está disponible en este momento; inténtelo de nuevo en unos segundos."
            raise ProblemError(503, "modelo", detail, retry_after=1, reason=str(error) or None) from None
        if card is None:
            raise ProblemError(404, "sin_ficha", "La versión del modelo que responde ahora no tiene ficha.")
        return HTMLResponse(card, headers=_HEADERS | {"Content-Security-Policy": styles_policy(card)})

    return router
