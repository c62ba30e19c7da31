"""`GET /modelo/ficha`: the card of the serving model, with a Content-Security-Policy for its own styles only.

It is public, like the page that links to it: it holds no data of patients.
"""

import asyncio
import base64
import hashlib
import re

from fastapi.responses import HTMLResponse

from services.gateway.page.routes import HEADERS
from shared.contracts.scoring import Cards, ModelUnavailableError
from shared.web.problems import Problem, ProblemError
from shared.web.routing import PUBLIC, Router

_STYLE = re.compile(rb"<style>(.*?)</style>", re.DOTALL)


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
        return HTMLResponse(card, headers=HEADERS | {"Content-Security-Policy": policy(card)})

    return router


def policy(card: bytes) -> str:
    """Return the policy that allows the styles of `card`, by hash (CSP level 3), and nothing else."""
    hashes = [base64.b64encode(hashlib.sha256(style).digest()).decode() for style in _STYLE.findall(card)]
    styles = " ".join(f"'sha256-{value}'" for value in hashes) or "'none'"
    return f"default-src 'none'; style-src {styles}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
