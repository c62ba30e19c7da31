"""Rows of events: one class per kind, whose annotated fields are the columns of its table.

A field declares everything about its column: type, comment in the database, and where it is shown. The table, the
insert statement, the read API's model, the analysts' view, the data dictionary and the copy between databases derive
from it. A new column takes a field here, its value in `ingest.parsing` and a migration.
"""

from dataclasses import dataclass, fields, replace
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, get_args, get_origin
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, Boolean, Double, Text
from sqlalchemy.types import TypeEngine

from services.recorder.db.types import JSON_DOCUMENT, UUID_TEXT, UtcTimestamp
from shared.web.api_keys import Role


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's type in SQL, in the read API, and in the data dictionary (Spanish)."""

    sql: TypeEngine[Any]
    api: Any
    kind: str


@dataclass(frozen=True, slots=True)
class ApiField:
    """A field of the read API, with its description in Spanish.

    Keys of the role `hidden_from` get null: a column that identifies a patient is hidden from analysts, and one that
    identifies the author of a request from doctors.
    """

    description: str | None = None
    hidden_from: Role | None = None


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A column of the analysts' view.

    `meaning` (Spanish) goes into the data dictionary, as does `kind`. `name`, `kind` and `expression` default to those
    of the column; in an expression, `predicciones` is the prediction and `r` the feedback. `postgresql` is the
    expression where it differs there. The column stands at the end of the view, or behind the column `after`.
    """

    meaning: str
    kind: str = ""
    name: str = ""
    expression: str = ""
    postgresql: str = ""
    after: str | None = None


@dataclass(frozen=True, slots=True)
class RowColumn:
    """One column of a kind of row; `comment` (English) is stored in the database."""

    name: str
    type: ColumnType
    nullable: bool
    comment: str
    api: ApiField | None
    view: ViewColumn | None


Uuid = Annotated[str, ColumnType(UUID_TEXT, UUID, "texto")]
"""Canonical lower-case text, on both databases."""


def _json(api: Any) -> ColumnType:  # noqa: ANN401 - a type expression
    """Return the type of a document, which a row holds as JSON text."""
    return ColumnType(JSON_DOCUMENT, api, "JSON")


@dataclass(slots=True, kw_only=True)  # not frozen: that triples the time to create one, and there is one per event
class PredictionRow:
    """A row of `predicciones`.

    `body`, the event as received, is no column: it goes to quarantine if the row cannot be recorded.
    """

    id: Annotated[
        Uuid,
        "the prediction's, a UUID: makes recording idempotent",
        ApiField(),
        ViewColumn("Identificador de la predicción (UUID)"),
    ]
    timestamp: Annotated[
        datetime,
        "when it was answered, UTC",
        ApiField("Cuándo se respondió, en UTC."),
        ViewColumn("Cuándo se respondió, en UTC"),
    ]
    inputs: Annotated[
        str,
        _json(dict[str, Any]),
        "the patient as asked",
        ApiField("Los datos del paciente, como se enviaron."),
    ]
    output: Annotated[
        str,
        "the class answered",
        ApiField("La clase respondida."),
        ViewColumn("Diagnóstico respondido", kind="categoría"),
    ]
    probabilidad: Annotated[
        float,
        "of that class, 0 to 1",
        ApiField("Probabilidad de esa clase, de 0 a 1."),
        ViewColumn("Probabilidad del diagnóstico respondido, de 0 a 1"),
    ]
    probabilidades: Annotated[
        str,
        _json(dict[str, float]),
        "per class, 0 to 1",
        ApiField("Probabilidad de cada clase."),
        ViewColumn("Probabilidad de cada diagnóstico, de 0 a 1"),
    ]
    modelo: Annotated[str, "name of the model that answered", ApiField()]
    modelo_version: Annotated[
        str, "its version in the registry", ApiField(), ViewColumn("Versión del modelo que respondió")
    ]
    modelo_digest: Annotated[
        str, "SHA-256 of its manifest", ApiField(), ViewColumn("SHA-256 del manifiesto de ese modelo")
    ]
    paciente_digest: Annotated[
        str,
        "SHA-256 of the patient class it was asked with",
        ApiField(),
        ViewColumn("SHA-256 de la clase de paciente con la que se preguntó"),
    ]
    gateway_id: Annotated[str, "who answered", ApiField("Quién respondió."), ViewColumn("Instancia que respondió")]
    seq: Annotated[
        int,
        "counts that gateway's answers, from 1, without gaps",
        ApiField("Número de la respuesta en ese gateway, sin huecos."),
    ]
    hash: Annotated[str, "SHA-256 of question and answer", ApiField("SHA-256 de la pregunta y la respuesta.")]
    referencia: Annotated[
        str | None,
        "the doctor's reference to the patient, as keyed hash",
        ApiField(
            "Hash de la referencia del paciente, si se indicó; véase /referencias. Null para analistas.",
            hidden_from=Role.ANALISTA,
        ),
    ]
    plausibles: Annotated[
        str | None,
        _json(list[str]),
        "classes not ruled out, likeliest first; NULL: not known",
        ApiField("Diagnósticos que no se podían descartar, del más al menos probable; null si no consta."),
        ViewColumn(
            "Diagnósticos que no se podían descartar, del más al menos probable; uno solo: concluyente; "
            "NULL si no consta",
            after="probabilidades",
        ),
    ]
    registrado: Annotated[
        datetime,
        "when it was recorded here, UTC",
        ApiField("Cuándo se registró, en UTC."),
        ViewColumn("Cuándo se guardó aquí, en UTC"),
    ]
    clave_id: Annotated[
        str | None,
        "id of the API key that asked; NULL: without keys, or from an older gateway",
        ApiField("Identificador de la clave con la que se pidió. Null para médicos.", hidden_from=Role.MEDICO),
        ViewColumn("Identificador de la clave de acceso con la que se pidió; NULL si no hizo falta o no consta"),
    ]
    body: bytes


@dataclass(slots=True, kw_only=True)
class FeedbackRow:
    """A row of `resultados`, the doctor's feedback on a prediction; `body` as in `PredictionRow`."""

    id: Annotated[Uuid, "the outcome's, a UUID: makes recording idempotent"]
    prediccion_id: Annotated[Uuid, "of which prediction, which may be recorded later"]
    aceptada: Annotated[
        bool,
        "whether the answer holds",
        ApiField("Si confirmó el diagnóstico respondido."),
        ViewColumn(
            "Si el diagnóstico del médico es el respondido; NULL si aún no dijo nada",
            expression="(r.aceptada OR r.diagnostico = predicciones.output)",  # a correction to the same one agrees
        ),
    ]
    diagnostico: Annotated[
        str | None,
        "the class that holds instead; NULL if it was accepted",
        ApiField("El que corresponde, si no es el respondido."),
        ViewColumn(
            "Diagnóstico según el médico: el respondido si lo confirmó; NULL si aún no dijo nada",
            kind="categoría",
            name="diagnostico_medico",
            expression="CASE WHEN r.aceptada THEN predicciones.output ELSE r.diagnostico END",
        ),
    ]
    motivo: Annotated[
        str | None,
        "why, in the doctor's words: PATIENT DATA",
        ApiField("Por qué, con sus palabras; null para analistas.", hidden_from=Role.ANALISTA),
    ]
    timestamp: Annotated[
        datetime,
        "when the doctor said it, UTC",
        ApiField("Cuándo lo dijo, en UTC."),
        ViewColumn("Cuándo lo dijo el médico por última vez, en UTC", name="resultado_timestamp"),
    ]
    gateway_id: Annotated[str, "who took it"]
    seq: Annotated[int, "its number among all that gateway answered"]
    hash: Annotated[str, "SHA-256 of what was said"]
    registrado: Annotated[datetime, "when it was recorded here, UTC"]
    clave_id: Annotated[
        str | None,
        "id of the API key that sent it; NULL: without keys, or from an older gateway",
        ApiField("Identificador de la clave con la que se envió. Null para médicos.", hidden_from=Role.MEDICO),
        ViewColumn(
            "Identificador de la clave de acceso del último resultado; NULL si no hizo falta o no consta",
            name="resultado_clave_id",
        ),
    ]
    body: bytes


EventRow = PredictionRow | FeedbackRow
"""A row of either kind of event."""
_TYPES: dict[type, ColumnType] = {
    str: ColumnType(Text(), str, "texto"),
    int: ColumnType(BigInteger(), int, "entero"),
    float: ColumnType(Double(), float, "número"),
    bool: ColumnType(Boolean(), bool, "sí o no"),
    datetime: ColumnType(UtcTimestamp(), datetime, "momento"),
}


def row_columns(row: type[EventRow]) -> tuple[RowColumn, ...]:
    """Return the columns of a kind of row, in the order of its fields."""
    annotated = [field for field in fields(row) if get_origin(field.type) is Annotated]
    return tuple(_column(field.name, *get_args(field.type)) for field in annotated)


def substitute(row: EventRow, now: datetime) -> EventRow:
    """Return a row of the same kind and about the same size that no database refuses for a value."""
    document = '"' + len(row.body) * "a" + '"'
    values: dict[Any, Any] = {str: "-", int: 1, float: 0.0, bool: False, datetime: now, UUID: str(uuid4())}
    columns: dict[str, Any] = {
        column.name: None if column.nullable else values.get(column.type.api, document)
        for column in row_columns(type(row))
    }
    return replace(row, **columns)


def _column(name: str, value: Any, *declared: object) -> RowColumn:  # noqa: ANN401 - a type expression
    nullable = NoneType in get_args(value)
    plain = next(member for member in get_args(value) if member is not NoneType) if nullable else value
    facts: dict[type, Any] = {type(each): each for each in declared}
    column_type = facts.get(ColumnType) or _TYPES[plain]
    return RowColumn(name, column_type, nullable, facts[str], facts.get(ApiField), facts.get(ViewColumn))
