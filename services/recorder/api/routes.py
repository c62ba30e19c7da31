"""The read API: recorded predictions, and the reconciliation of each gateway's answers."""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Path, Query, Request
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.recorder.accounting.reconcile import reconcile
from services.recorder.api.models import (
    Conciliacion,
    Cuenta,
    Filtro,
    OtrosGateways,
    Pagina,
    PrediccionConResultados,
    split_unreadable,
)
from services.recorder.api.queries import BadCursorError, is_recorded, read_one, read_page
from services.recorder.db.database import DATABASE_ERRORS
from services.recorder.db.rows import FeedbackRow, PredictionRow, row_columns
from shared.contracts.transport import OutboxState
from shared.web.access_trail import note_access
from shared.web.api_keys import Role
from shared.web.authorization import caller_role
from shared.web.problems import Problem, ProblemError, invalid_parameters
from shared.web.routing import Router

_READERS = frozenset({Role.MEDICO, Role.ANALISTA})
"""The roles that may read predictions."""
PredictionId = Annotated[str, Path(json_schema_extra={"format": "uuid"})]
T = TypeVar("T")
_RETRY_SECONDS = 2
_SILENT_AFTER = timedelta(minutes=1)
"""Two intervals of reports (`services.gateway.outbox.status_reports`)."""


def read_router(
    readers: AsyncEngine, outboxes: Callable[[], Awaitable[Sequence[OutboxState]]], diagnoses: Collection[str]
) -> Router:
    """Return the routes on the database and the `outboxes` of the gateways in this process.

    A filter by another diagnosis than `diagnoses` is rejected unless a row has it, such as one of an earlier class.
    """
    down: dict[int | str, dict[str, Any]] = {503: {"model": Problem, "description": "La base de datos no responde"}}
    router = Router(tags=["historial"], responses=down)

    @router.get("/predicciones", roles=_READERS, summary="Predicciones registradas, de la más nueva a la más antigua")
    async def predicciones(filtro: Annotated[Filtro, Query()], request: Request) -> Pagina:
        role = caller_role(request.scope)
        if role is Role.ANALISTA and filtro.referencia is not None:
            raise ProblemError(403, "rol", "Su clave no permite buscar por la referencia de un paciente.")
        output = filtro.output
        if output is not None and output not in diagnoses and not await _queried(is_recorded(readers, output)):
            raise invalid_parameters({"output": "unknown"})
        try:
            rows, following = await _queried(read_page(readers, filtro))
        except BadCursorError:
            raise invalid_parameters({"cursor": "unknown"}) from None
        note_access(request.scope, rows=len(rows))
        shown, unreadable = split_unreadable(_shown(row, role) for row in rows)
        return Pagina(predicciones=shown, ilegibles=unreadable, siguiente=following)

    @router.get(
        "/predicciones/{id}",
        roles=_READERS,
        summary="Una predicción por su id",
        responses={
            404: {"model": Problem, "description": "No hay ninguna con ese id"},
            500: {"model": Problem, "description": "Su fila no se puede leer"},
        },
    )
    async def prediccion(id: PredictionId, request: Request) -> PrediccionConResultados:  # noqa: A002 - the contract's name
        try:
            row = await _queried(read_one(readers, str(UUID(id))))
        except ValueError:
            row = None
        if row is None:
            raise ProblemError(404, "prediccion_no_encontrada", "No hay ninguna predicción registrada con ese id.")
        note_access(request.scope, prediction=row["id"])
        return _readable(_shown(row, caller_role(request.scope)))

    @router.get(
        "/conciliacion", roles={Role.ANALISTA, Role.OPS}, summary="¿Está todo lo respondido? La cuenta de cada gateway"
    )
    async def conciliacion() -> Conciliacion:
        now = datetime.now(UTC)
        found = await _queried(reconcile(readers, outboxes, now))
        gateways = [
            Cuenta(
                gateway_id=account.gateway_id,
                respondidas=account.answered,
                registradas=account.recorded,
                duplicadas=account.duplicates,
                en_outbox=account.in_outbox,
                en_camino=account.in_transit,
                en_cuarentena=account.quarantined,
                diferencia=account.missing,
                sin_respaldo=account.unsupported,
                visto=account.last_report,
                en_silencio=account.last_report is None or now - account.last_report > _SILENT_AFTER,
            )
            for account in found.accounts
        ]
        others = OtrosGateways(gateways=found.others.gateways, filas=found.others.rows)
        missing = sum(account.missing for account in found.accounts)
        return Conciliacion(gateways=gateways, otros=others, diferencia=missing)

    return router


_HIDDEN = {
    role: tuple(
        {column.name: None for column in row_columns(row) if column.api and column.api.hidden_from is role}
        for row in (PredictionRow, FeedbackRow)
    )
    for role in _READERS
}
"""Null for each column of a prediction and of feedback that keys of a role may not read."""


def _shown(row: dict[str, Any], role: Role | None) -> dict[str, Any]:
    """Return `row` without the columns that are hidden from `role`; None is a request without a key."""
    if role is None:
        return row
    of_prediction, of_feedback = _HIDDEN[role]
    shown = {**row, **of_prediction, "resultado": row["resultado"] and {**row["resultado"], **of_feedback}}
    if "resultados" in row:
        shown["resultados"] = [{**feedback, **of_feedback} for feedback in row["resultados"]]
    return shown


def _readable(row: dict[str, Any]) -> PrediccionConResultados:
    """Return the model of `row`, or raise the problem that it cannot be read."""
    try:
        return PrediccionConResultados.model_validate(row)
    except ValidationError:
        detail = "La fila de esta predicción no se puede leer; avise a quien administra el sistema."
        raise ProblemError(500, "ilegible", detail) from None


async def _queried(reading: Coroutine[Any, Any, T]) -> T:
    """Return the result of `reading`, or raise the problem that the database is down."""
    try:
        return await reading
    except DATABASE_ERRORS:
        detail = "La base de datos no responde por el momento; intente de nuevo."
        raise ProblemError(503, "base_de_datos", detail, retry_after=_RETRY_SECONDS) from None
