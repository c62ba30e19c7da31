"""Models of the read API. Those of recorded rows derive from the rows' columns."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, create_model

from services.recorder.accounting.reconcile import MOST_LISTED
from services.recorder.db.rows import EventRow, FeedbackRow, PredictionRow, row_columns

LARGEST_PAGE = 500
"""Predictions in one answer."""
MOST_FEEDBACK = 100
"""Rows of feedback that are read with one prediction."""
_FINITE = ConfigDict(allow_inf_nan=False)
"""JSON has no infinity and no NaN."""
Model = TypeVar("Model", bound=BaseModel)


def _showing(row: type[EventRow]) -> Callable[[type[Model]], type[Model]]:
    """Put the columns of `row` that the API shows before the API model's own fields."""

    def build(model: type[Model]) -> type[Model]:
        shown: dict[str, Any] = {
            column.name: (
                column.type.api | None if column.nullable else column.type.api,
                Field(description=column.api.description),
            )
            for column in row_columns(row)
            if column.api
        }
        own: dict[str, Any] = {name: (field.annotation, field) for name, field in model.model_fields.items()}
        built = create_model(
            model.__name__, __config__=_FINITE, __doc__=model.__doc__, __module__=__name__, **shown, **own
        )
        return cast("type[Model]", built)  # it has the fields of `model`

    return build


@_showing(FeedbackRow)
class ResultadoRegistrado(BaseModel):
    """Lo que el médico dijo de una predicción."""


@_showing(PredictionRow)
class Prediccion(BaseModel):
    """Una predicción registrada."""

    resultado: ResultadoRegistrado | None = Field(description="El último resultado que dio el médico, si dio alguno.")


def split_unreadable(rows: Iterable[dict[str, Any]]) -> tuple[list[Prediccion], list[str]]:
    """Return the rows that can be shown, and the ids of the others, which were changed after they were recorded."""
    readable, unreadable = [], []
    for row in rows:
        try:
            readable.append(Prediccion.model_validate(row))
        except ValidationError:
            unreadable.append(str(row["id"]))
    return readable, unreadable


class PrediccionConResultados(Prediccion):
    """Una predicción registrada, con todo lo que el médico dijo de ella."""

    resultados: list[ResultadoRegistrado] = Field(
        description=f"Los resultados, del más nuevo al más antiguo; los últimos {MOST_FEEDBACK}, si hay más."
    )


class Pagina(BaseModel):
    """Una página de predicciones, de la más nueva a la más antigua."""

    predicciones: list[Prediccion]
    ilegibles: list[str] = Field(
        description="Id de cada predicción de esta página cuya fila no se puede leer, porque se cambió después de "
        "registrarla; avise a quien administra el sistema."
    )
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
    sin_respaldo: int | None = Field(
        description="El número más alto que afirma un aviso o una fila sin que las filas lo respalden: no cuenta en "
        "ninguna suma y conviene averiguar de dónde viene; null si no hay ninguno."
    )
    visto: datetime | None = Field(description="Cuándo avisó por última vez, en UTC; null si nunca lo ha hecho.")
    en_silencio: bool = Field(description="Hace más de un minuto que no avisa: pudo responder más de lo que consta.")


class OtrosGateways(BaseModel):
    """Los gateways que no tienen cuenta propia, sumados."""

    gateways: int = Field(description="Cuántos son.")
    filas: int = Field(description="Cuántas filas hay de ellos, registradas, duplicadas o en cuarentena.")


class Conciliacion(BaseModel):
    """Todo lo respondido está registrado, en cuarentena o en camino."""

    gateways: list[Cuenta] = Field(description=f"Los {MOST_LISTED} con más filas, como máximo.")
    otros: OtrosGateways
    diferencia: int = Field(description="Suma de las diferencias; 0 si no falta ninguna respuesta.")


def _moment(value: object) -> datetime:
    """Read a date or a moment of ISO 8601; without a zone it is in UTC. Pydantic would take numbers as seconds."""
    text = str(value).upper()  # RFC 3339 allows small letters, too
    if "\0" in text:  # `fromisoformat` takes one at the end
        raise ValueError("not printable")
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("out of range") from None


_MOMENT_SCHEMA = {"anyOf": [{"type": "string", "format": name} for name in ("date-time", "date")]}
_Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema(_MOMENT_SCHEMA)]
_Stored = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""A text that every database can compare."""


class Filtro(BaseModel):
    """Qué predicciones se piden; una fecha o un momento sin zona horaria se entiende en UTC."""

    model_config = ConfigDict(extra="forbid")

    desde: _Moment | None = Field(None, description="Desde esta fecha o este momento (ISO 8601), incluido.")
    hasta: _Moment | None = Field(None, description="Hasta esta fecha o este momento (ISO 8601), sin incluirlo.")
    output: _Stored | None = Field(None, description="Solo este diagnóstico: uno posible, o que ya se haya registrado.")
    modelo_version: _Stored | None = Field(None, description="Solo esta versión del modelo.")
    referencia: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="Solo este paciente: el hash que da /referencias."
    )
    limite: int = Field(50, ge=1, le=LARGEST_PAGE, description="Cuántas como máximo.")
    cursor: str | None = Field(None, description="El valor de `siguiente` de la página anterior.")
