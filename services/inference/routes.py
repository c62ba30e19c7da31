"""The Open Inference Protocol v2 over REST."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import JSONResponse

if TYPE_CHECKING:
    from services.inference.batching import Batcher
    from shared.patient import Patient


def router(batcher: Batcher, patient: type[Patient], *, max_rows: int) -> APIRouter:  # noqa: ARG001
    """Build the routes under `/v2`."""
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @routes.get("/health/ready")
    async def ready() -> JSONResponse:
        reason = batcher.unavailable()
        return JSONResponse(
            {"ready": True} if reason is None else {"ready": False, "error": reason}, 503 if reason else 200
        )

    return routes
