"""`GET /modelo`: the version that serves on this replica, the version in production, and why they differ."""

from datetime import datetime

from pydantic import BaseModel, Field

from services.inference.rollout.state import RegistryStatus, RolloutState, ServingModel
from shared.web.api_keys import Role
from shared.web.routing import Router


class Sirve(BaseModel):
    """La versión con la que se responde ahora."""

    nombre: str
    version: str
    digest: str
    plataforma: str
    desde: datetime


class Rechazada(BaseModel):
    """Una versión que está en producción y no debe servir."""

    version: str
    motivo: str


class Registro(BaseModel):
    """El registro que se sigue."""

    url: str
    visto: datetime | None = Field(description="Cuándo respondió por última vez.")
    callado_desde: datetime | None = Field(description="Desde cuándo no responde; null si responde.")
    motivo: str | None = Field(description="Por qué no responde, o por qué ninguna versión está en producción.")


class EstadoModelo(BaseModel):
    """El modelo de esta réplica."""

    sirve: Sirve | None = Field(description="null si no se puede responder.")
    produccion: str | None = Field(description="La versión que está en producción, hasta donde se sabe.")
    rechazada: Rechazada | None
    registro: Registro | None = Field(description="null si se sigue la carpeta de modelos de esta máquina.")


def status_router(state: RolloutState) -> Router:
    """Build the route that shows `state`."""
    router = Router(tags=["modelo"])

    @router.get("/modelo", roles={Role.OPS}, summary="Qué versión sirve aquí, y cuál está en producción")
    async def modelo() -> EstadoModelo:
        return EstadoModelo(
            sirve=state.serving and _serving(state.serving),
            produccion=state.production,
            rechazada=state.rejected and Rechazada(version=state.rejected.version, motivo=state.rejected.reason),
            registro=state.registry and _registry(state.registry),
        )

    return router


def _serving(serving: ServingModel) -> Sirve:
    facts = serving.facts
    return Sirve(
        nombre=facts.name,
        version=facts.version,
        digest=facts.digest,
        plataforma=serving.platform,
        desde=serving.since,
    )


def _registry(registry: RegistryStatus) -> Registro:
    return Registro(
        url=registry.url,
        visto=registry.last_answer,
        callado_desde=registry.silent_since,
        motivo=registry.reason,
    )
