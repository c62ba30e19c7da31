"""`GET /modelo`: which version serves here, which one should, and why if they differ. For operators; no patients."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from shared.web.api_keys import Role
from shared.web.routing import Router

if TYPE_CHECKING:
    from services.inference.rollout.rollout import Production


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True)


class Sirve(_Said):
    """La versión con la que se responde ahora."""

    nombre: str
    version: str
    digest: str
    plataforma: str
    desde: datetime


class Rechazada(_Said):
    """Una versión que está en producción y no debe servir."""

    version: str
    motivo: str


class Registro(_Said):
    """El registro que se sigue."""

    url: str
    visto: datetime | None = Field(description="Cuándo respondió por última vez.")
    callado_desde: datetime | None = Field(description="Desde cuándo no responde; null si responde.")
    motivo: str | None = Field(description="Por qué no responde.")


class EstadoModelo(_Said):
    """El modelo de esta réplica."""

    sirve: Sirve | None = Field(description="null si no se puede responder.")
    produccion: str | None = Field(description="La versión que está en producción, hasta donde se sabe.")
    rechazada: Rechazada | None
    registro: Registro | None = Field(description="null si se sigue la carpeta de modelos de esta máquina.")


def status_router(production: Production) -> Router:
    """Build the route that shows `production`."""
    router = Router(tags=["modelo"])

    @router.get("/modelo", roles={Role.OPS}, summary="Qué versión sirve aquí, y cuál está en producción")
    async def modelo() -> EstadoModelo:
        mirror, refusal = production.mirror, production.follower.refusal
        return EstadoModelo(
            sirve=_serving(production),
            produccion=production.follower.looked_at if mirror is None else mirror.production,
            rechazada=refusal and Rechazada(version=refusal.version, motivo=refusal.reason),
            registro=mirror
            and Registro(
                url=mirror.url, visto=mirror.seen, callado_desde=mirror.silent_since, motivo=mirror.silent_because
            ),
        )

    return router


def _serving(production: Production) -> Sirve | None:
    loaded, since = production.batcher.loaded, production.follower.since
    if loaded is None or since is None:
        return None
    facts = loaded.model.facts
    return Sirve(
        nombre=facts.name, version=facts.version, digest=facts.digest, plataforma=loaded.model.platform, desde=since
    )
