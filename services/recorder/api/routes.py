"""The read API: what was recorded, and the account of what was answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field

from services.recorder.accounting.reconcile import reconcile
from services.recorder.api.queries import MOST_OUTCOMES, BadCursorError, Wanted, read_one, read_page
from services.recorder.db.database import DATABASE_ERRORS
from shared.web.api_keys import Role
from shared.web.authorization import caller_role
from shared.web.problems import Problem, ProblemError
from shared.web.routing import Router

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from shared.contracts.transport import OutboxState

_READERS = frozenset({Role.MEDICO, Role.ANALISTA})
"""The roles that may read predictions."""
T = TypeVar("T")
LARGEST_PAGE = 500
_RETRY_SECONDS = 2
_SILENT_AFTER = timedelta(minutes=1)
"""Of two reports that should have come (`services.gateway.outbox.status_reports`)."""


class ResultadoRegistrado(BaseModel):
    """Lo que el médico dijo de una predicción."""

    aceptada: bool = Field(description="Si confirmó el diagnóstico respondido.")
    diagnostico: str | None = Field(description="El que corresponde, si no es el respondido.")
    motivo: str | None = Field(description="Por qué, con sus palabras; null para analistas.")
    timestamp: datetime = Field(description="Cuándo lo dijo, en UTC.")


class Prediccion(BaseModel):
    """Una predicción registrada."""

    id: UUID
    timestamp: datetime = Field(description="Cuándo se respondió, en UTC.")
    inputs: dict[str, Any] = Field(description="Los datos del paciente, como se enviaron.")
    output: str = Field(description="La clase respondida.")
    probabilidad: float = Field(description="Probabilidad de esa clase, de 0 a 1.")
    probabilidades: dict[str, float] = Field(description="Probabilidad de cada clase.")
    modelo: str
    modelo_version: str
    modelo_digest: str
    paciente_digest: str
    gateway_id: str = Field(description="Quién respondió.")
    seq: int = Field(description="Número de la respuesta en ese gateway, sin huecos.")
    hash: str = Field(description="SHA-256 de la pregunta y la respuesta.")
    referencia: str | None = Field(
        description="Hash de la referencia del paciente, si se indicó; véase /referencias. Null para analistas."
    )
    plausibles: list[str] | None = Field(
        description="Diagnósticos que no se podían descartar, del más al menos probable; null si no consta."
    )
    registrado: datetime = Field(description="Cuándo se registró, en UTC.")
    resultado: ResultadoRegistrado | None = Field(description="El último resultado que dio el médico, si dio alguno.")


class PrediccionConResultados(Prediccion):
    """Una predicción registrada, con todo lo que el médico dijo de ella."""

    resultados: list[ResultadoRegistrado] = Field(
        description=f"Los resultados, del más nuevo al más antiguo; los últimos {MOST_OUTCOMES}, si hay más."
    )


class Pagina(BaseModel):
    """Una página de predicciones, de la más nueva a la más antigua."""

    predicciones: list[Prediccion]
    siguiente: str | None = Field(description="Valor de `cursor` para la página siguiente; null en la última.")


class Cuenta(BaseModel):
    """Cuenta de un gateway: `respondidas` es la suma de todo lo que sigue, hasta `diferencia`."""

    gateway_id: str
    respondidas: int
    registradas: int
    duplicadas: int = Field(description="Repeticiones de una respuesta que ya estaba registrada.")
    en_outbox: int = Field(description="Guardadas en el gateway; según su último aviso.")
    en_camino: int = Field(description="Salieron del gateway y aún no están registradas.")
    en_cuarentena: int
    diferencia: int = Field(description="Respuestas que faltan; 0 si no falta ninguna.")
    visto: datetime | None = Field(description="Cuándo avisó por última vez, en UTC; null si nunca lo ha hecho.")
    en_silencio: bool = Field(description="Hace más de un minuto que no avisa: pudo responder más de lo que consta.")


class Conciliacion(BaseModel):
    """Todo lo respondido está registrado, en cuarentena o en camino."""

    gateways: list[Cuenta]
    diferencia: int = Field(description="Suma de las diferencias; 0 si no falta ninguna respuesta.")


class Filtro(BaseModel):
    """Qué predicciones se piden; una fecha sin zona horaria se entiende en UTC."""

    model_config = ConfigDict(extra="forbid")

    desde: datetime | None = Field(None, description="Desde este momento, incluido.")
    hasta: datetime | None = Field(None, description="Hasta este momento, sin incluirlo.")
    output: str | None = Field(None, description="Solo esta clase.")
    modelo_version: str | None = Field(None, description="Solo esta versión del modelo.")
    referencia: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="Solo este paciente: el hash que da /referencias."
    )
    limite: int = Field(50, ge=1, le=LARGEST_PAGE, description="Cuántas como máximo.")
    cursor: str | None = Field(None, description="El valor de `siguiente` de la página anterior.")

    def wanted(self) -> Wanted:
        """Translate for the query."""
        since, until = _utc(self.desde), _utc(self.hasta)
        return Wanted(self.limite, since, until, self.output, self.modelo_version, self.referencia, self.cursor)


@dataclass(frozen=True, slots=True)
class ReadDeps:
    """What the routes need: the database to read, and the state of the gateways' outboxes known in this process."""

    readers: AsyncEngine
    outboxes: Callable[[], Awaitable[Sequence[OutboxState]]]


def read_router(deps: ReadDeps) -> Router:
    """Build the routes."""
    down: dict[int | str, dict[str, Any]] = {503: {"model": Problem, "description": "La base de datos no responde"}}
    router = Router(tags=["historial"], responses=down)

    @router.get("/predicciones", roles=_READERS, summary="Predicciones registradas, de la más nueva a la más antigua")
    async def predicciones(filtro: Annotated[Filtro, Query()], request: Request) -> Pagina:
        analyst = caller_role(request.scope) is Role.ANALISTA
        if analyst and filtro.referencia is not None:
            raise ProblemError(403, "rol", "Su clave no permite buscar por la referencia de un paciente.")
        try:
            rows, following = await _answered(read_page(deps.readers, filtro.wanted()))
        except BadCursorError:
            listed = [{"campo": "cursor", "regla": "parametro", "mensaje": "El valor no es válido."}]
            raise ProblemError(422, "parametros", "Revise los parámetros indicados.", errors=listed) from None
        shown = map(_impersonal, rows) if analyst else rows
        return Pagina(predicciones=[Prediccion.model_validate(row) for row in shown], siguiente=following)

    @router.get(
        "/predicciones/{id}",
        roles=_READERS,
        summary="Una predicción por su id",
        responses={404: {"model": Problem, "description": "No hay ninguna con ese id"}},
    )
    async def prediccion(id: str, request: Request) -> PrediccionConResultados:  # noqa: A002 - the contract's name
        try:
            row = await _answered(read_one(deps.readers, str(UUID(id))))
        except ValueError:
            row = None
        if row is None:
            raise ProblemError(404, "prediccion_no_encontrada", "No hay ninguna predicción registrada con ese id.")
        analyst = caller_role(request.scope) is Role.ANALISTA
        return PrediccionConResultados.model_validate(_impersonal(row) if analyst else row)

    @router.get(
        "/conciliacion", roles={Role.ANALISTA, Role.OPS}, summary="¿Está todo lo respondido? La cuenta de cada gateway"
    )
    async def conciliacion() -> Conciliacion:
        now = datetime.now(UTC)
        accounts = await _answered(reconcile(deps.readers, deps.outboxes, now))
        listed = [
            Cuenta(
                gateway_id=account.gateway_id,
                respondidas=account.answered,
                registradas=account.recorded,
                duplicadas=account.duplicates,
                en_outbox=account.in_outbox,
                en_camino=account.on_the_way,
                en_cuarentena=account.quarantined,
                diferencia=account.missing,
                visto=account.seen,
                en_silencio=account.seen is None or now - account.seen > _SILENT_AFTER,
            )
            for account in accounts
        ]
        return Conciliacion(gateways=listed, diferencia=sum(account.missing for account in accounts))

    return router


def _impersonal(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out what analysts do not get: whom it is about, and doctors' own words."""
    without = {"referencia": None, "resultado": row["resultado"] and {**row["resultado"], "motivo": None}}
    if "resultados" in row:
        without["resultados"] = [{**said, "motivo": None} for said in row["resultados"]]
    return row | without


async def _answered(reading: Coroutine[Any, Any, T]) -> T:
    try:
        return await reading
    except DATABASE_ERRORS:
        detail = "La base de datos no responde por el momento; intente de nuevo."
        raise ProblemError(503, "base_de_datos", detail, retry_after=_RETRY_SECONDS) from None


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
