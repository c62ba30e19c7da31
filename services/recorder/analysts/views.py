"""The analysts' view: one typed column per feature of the patient class, the same on SQLite and PostgreSQL.

A value of another type than the class declares now (an older class, another producer) is NULL in the view instead of an
error in every query; `predicciones.inputs` keeps it unchanged. On SQLite an expression has no type unless it is cast:
text that a client binds would equal no number (https://www.sqlite.org/datatype3.html#affinity_of_expressions). Columns
of the table have one, and stay as they are so that their indexes serve. The view shows the doctor's last feedback on a
prediction. It omits the doctor's reason and the reference to the patient, because they identify persons.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from services.recorder.analysts.time_zone import offsets
from services.recorder.db.rows import EventRow, FeedbackRow, PredictionRow, ViewColumn, row_columns
from services.recorder.db.types import iso_utc
from shared.patient import Feature, Kind, Patient

_LONGEST_NAME = 63
"""Bytes of a name in PostgreSQL, which truncates longer ones without an error."""
_EXACT = 2**53
"""Larger integers are not exact in every client."""
_LAST_FEEDBACK = (
    "(SELECT {} FROM resultados AS r WHERE r.prediccion_id = predicciones.id "
    "ORDER BY r.registrado DESC, r.id DESC LIMIT 1)"
)
"""An expression over the last recorded feedback. A query that does not name its column does not pay for it."""


def _declared(row: type[EventRow], prefix: str, template: str) -> Iterator[ViewColumn]:
    """Yield the columns of the view that `row` declares; `template` is the SQL around their expressions."""
    for column in row_columns(row):
        if view := column.view:
            expression = template.format(view.expression or f'{prefix}"{column.name}"')
            kind = view.kind or column.type.kind
            postgresql = view.postgresql and template.format(view.postgresql)
            yield replace(view, name=view.name or column.name, kind=kind, expression=expression, postgresql=postgresql)


def _in_order(columns: Iterable[ViewColumn]) -> tuple[ViewColumn, ...]:
    ordered: list[ViewColumn] = []
    for column in columns:
        names = [earlier.name for earlier in ordered]
        place = names.index(column.after) + 1 if column.after else len(ordered)
        ordered.insert(place, column)
    return tuple(ordered)


_CALENDAR = (
    ViewColumn(
        "Día en que se respondió, en UTC",
        kind="fecha",
        name="dia",
        expression='substr("timestamp", 1, 10)',
        postgresql="(\"timestamp\" AT TIME ZONE 'UTC')::date",
        after="timestamp",
    ),
    ViewColumn(
        "Mes en que se respondió, en UTC: AAAA-MM",
        kind="texto",
        name="mes",
        expression='substr("timestamp", 1, 7)',
        postgresql="to_char(\"timestamp\" AT TIME ZONE 'UTC', 'YYYY-MM')",
        after="dia",
    ),
)
_DERIVED = (
    ViewColumn(
        "Versión del modelo que respondió, como número: se ordena y se compara bien; NULL si no es un número",
        kind="entero",
        name="modelo_version_numero",
        expression="CASE WHEN modelo_version NOT GLOB '*[^0-9]*' AND length(modelo_version) BETWEEN 1 AND 18 "
        "THEN CAST(modelo_version AS INTEGER) END",
        postgresql="CASE WHEN modelo_version ~ '^[0-9]{1,18}$' THEN modelo_version::bigint END",
    ),
    ViewColumn(
        "Si solo había un diagnóstico que no se podía descartar; NULL si no consta",
        kind="sí o no",
        name="concluyente",
        expression="CASE WHEN json_type(plausibles) = 'array' THEN json_array_length(plausibles) = 1 END",
        postgresql="CASE WHEN jsonb_typeof(plausibles) = 'array' THEN jsonb_array_length(plausibles) = 1 END",
    ),
    ViewColumn(
        "Cuántos diagnósticos no se podían descartar; NULL si no consta",
        kind="entero",
        name="plausibles_numero",
        expression="CASE WHEN json_type(plausibles) = 'array' THEN json_array_length(plausibles) END",
        postgresql="CASE WHEN jsonb_typeof(plausibles) = 'array' THEN jsonb_array_length(plausibles) END",
    ),
)
_LOCAL_DAY = "dia_local"
_FIXED_COLUMNS = _in_order(
    (*_declared(PredictionRow, "", "{}"), *_CALENDAR, *_declared(FeedbackRow, "r.", _LAST_FEEDBACK), *_DERIVED)
)
_SQLITE_TYPES = {"sí o no": "INTEGER", "entero": "INTEGER", "número": "REAL"}
"""The type by the kind of a column; TEXT of all others."""


def fixed_columns(zone: ZoneInfo) -> tuple[ViewColumn, ...]:
    """Return the columns of every disease's view in its order: as the rows declare them, and the day in `zone`."""
    periods = [(iso_utc(since), round(offset.total_seconds())) for since, offset in offsets(zone)]
    until = "".join(f"WHEN \"timestamp\" < '{since}' THEN {before} " for (_, before), (since, _) in pairwise(periods))
    seconds = f"CASE {until}ELSE {periods[-1][1]} END" if until else str(periods[-1][1])
    # Without the fraction, which `date` rounds to milliseconds, and so into the next day.
    local_day = ViewColumn(
        f"Día en que se respondió, en la hora de {zone.key}",
        kind="fecha",
        name=_LOCAL_DAY,
        expression=f"date(substr(\"timestamp\", 1, 19), ({seconds}) || ' seconds')",
        postgresql=f'("timestamp" AT TIME ZONE {_literal(zone.key)})::date',
    )
    return (*_FIXED_COLUMNS, local_day)


def view_name(patient: type[Patient]) -> str:
    """Return the name of the disease's view."""
    return _shortened(f"predicciones_{patient.disease.name.lower()}")


def column_names(patient: type[Patient]) -> dict[str, str]:
    """Return the column of each feature: lower case, and `paciente_…` where the view has such a column already."""
    taken = {_LOCAL_DAY, *(column.name for column in _FIXED_COLUMNS)}
    names: dict[str, str] = {}
    for feature in patient.features:
        name = _shortened(feature.name.lower())
        if name in taken:
            name = _shortened(f"paciente_{name}")
        number = 2
        while name in taken:
            name = f"{_shortened(feature.name.lower(), 3)}_{number}"
            number += 1
        taken.add(name)
        names[feature.name] = name
    return names


def view_sql(patient: type[Patient], dialect: str, zone: ZoneInfo) -> str:
    """Return the statement that creates the view; `dialect` is sqlite or postgresql."""
    fixed, typed = (_fixed_postgresql, _typed_postgresql) if dialect == "postgresql" else (_fixed_sqlite, _typed_sqlite)
    names = column_names(patient)
    columns = [
        *((column.name, fixed(column)) for column in fixed_columns(zone)),
        *((names[feature.name], typed(feature)) for feature in patient.features),
    ]
    selected = ",\n  ".join(f"{expression} AS {quoted(name)}" for name, expression in columns)
    source = f"FROM predicciones\nWHERE modelo = {_literal(patient.disease.name)}"
    return f"CREATE VIEW {quoted(view_name(patient))} AS\nSELECT\n  {selected}\n{source}"


def refresh_view(connection: Connection, patient: type[Patient], zone: ZoneInfo) -> bool:
    """Create the view, or replace it if its statement changed; return whether it did."""
    name, dialect = view_name(patient), connection.dialect.name
    statement = view_sql(patient, dialect, zone)
    mark = hashlib.sha256(statement.encode()).hexdigest() if dialect == "postgresql" else statement
    if _mark(connection, name) == mark:
        return False
    connection.exec_driver_sql(f"DROP VIEW IF EXISTS {quoted(name)}")
    connection.exec_driver_sql(statement)
    if dialect == "postgresql":
        connection.exec_driver_sql(f"COMMENT ON VIEW {quoted(name)} IS {_literal(mark)}")
    return True


def quoted(name: str) -> str:
    """Return a name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _mark(connection: Connection, name: str) -> str | None:
    """Return what the existing view was created from: SQLite stores the statement, PostgreSQL our comment."""
    if connection.dialect.name == "postgresql":
        query = "SELECT obj_description(to_regclass(:name), 'pg_class')"
        result = connection.execute(text(query), {"name": quoted(name)})
    else:
        query = "SELECT sql FROM sqlite_master WHERE type = 'view' AND name = :name"
        result = connection.execute(text(query), {"name": name})
    mark: str | None = result.scalar_one_or_none()
    return mark


def _fixed_postgresql(column: ViewColumn) -> str:
    return column.postgresql or column.expression


def _fixed_sqlite(column: ViewColumn) -> str:
    if column.expression == quoted(column.name):
        return column.expression
    return f"CAST({column.expression} AS {_SQLITE_TYPES.get(column.kind, 'TEXT')})"


def _typed_postgresql(feature: Feature) -> str:
    key = _literal(feature.name)
    value = f"(inputs ->> {key})"
    exact = (
        f"CASE WHEN {value}::numeric % 1 = 0 AND abs({value}::numeric) <= {_EXACT} THEN {value}::numeric::bigint END"
    )
    kinds: dict[Kind, tuple[str, str]] = {
        "number": ("number", f"{value}::double precision"),
        "integer": ("number", exact),
        "flag": ("boolean", f"{value}::boolean"),
        "choice": ("string", value),
    }
    kind, typed = kinds[feature.kind]
    return f"CASE WHEN jsonb_typeof(inputs -> {key}) = '{kind}' THEN {typed} END"


def _typed_sqlite(feature: Feature) -> str:
    path = _literal(f'$."{feature.name}"')
    kind, value = f"json_type(inputs, {path})", f"json_extract(inputs, {path})"
    number = f"{kind} IN ('integer', 'real')"
    exact = f"{value} = CAST({value} AS INTEGER) AND abs({value}) <= {_EXACT}"
    kinds: dict[Kind, tuple[str, str]] = {
        "number": (f"CASE WHEN {number} THEN {value} END", "REAL"),
        "integer": (f"CASE WHEN {number} AND {exact} THEN {value} END", "INTEGER"),
        "flag": (f"CASE {kind} WHEN 'true' THEN 1 WHEN 'false' THEN 0 END", "INTEGER"),
        "choice": (f"CASE WHEN {kind} = 'text' THEN {value} END", "TEXT"),
    }
    typed, affinity = kinds[feature.kind]
    return f"CAST({typed} AS {affinity})"


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _shortened(name: str, less: int = 0) -> str:
    return name.encode()[: _LONGEST_NAME - less].decode(errors="ignore")
