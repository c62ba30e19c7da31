"""The analysts' dictionary, `diccionario`: what each column of the view means, filled from the patient class.

A column whose meaning changed keeps its former line, with the moment it ended, so that old rows can still be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from services.recorder.analysts.views import FIXED_COLUMNS, column_names, view_name
from services.recorder.db.tables import DICCIONARIO

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from shared.patient import Feature, Patient

_KINDS = {"number": "número", "integer": "entero", "flag": "sí o no", "choice": "categoría"}
_WORDING = "significado"
"""May be corrected in place; a change in anything else is another meaning."""
Line = dict[str, Any]


def write_lines(patient: type[Patient]) -> list[Line]:
    """Write a line per column of the view, without the moments: names as in the view, ranges in `unidad`."""
    names = column_names(patient)
    diagnoses = "; ".join(f"{diagnosis.code} = {diagnosis.label}" for diagnosis in patient.disease.diagnoses)
    fixed = [
        _line(column.name, column.kind, column.meaning, valores=diagnoses if column.kind == "categoría" else None)
        for column in FIXED_COLUMNS
    ]
    return [*fixed, *(_feature_line(feature, names[feature.name]) for feature in patient.features)]


def keep_dictionary(connection: Connection, patient: type[Patient], now: datetime) -> None:
    """Bring the dictionary in step with `patient`: end what changed or is gone, begin what is new, correct wording."""
    table, view = DICCIONARIO.c, view_name(patient)
    current = select(DICCIONARIO).where(table.vista == view, table.hasta.is_(None))
    held = {row["nombre"]: dict(row) for row in connection.execute(current).mappings()}
    lines = {line["nombre"]: line for line in write_lines(patient)}
    for name, line in held.items():
        found = DICCIONARIO.update().where(table.vista == view, table.nombre == name, table.hasta.is_(None))
        if name not in lines or not _same(line, lines[name]):
            connection.execute(found.values(hasta=now))
        elif line[_WORDING] != lines[name][_WORDING]:
            connection.execute(found.values({_WORDING: lines[name][_WORDING]}))
    fresh = [line for name, line in lines.items() if name not in held or not _same(held[name], line)]
    if fresh:
        begun = {"vista": view, "desde": now, "desde_paciente": patient.digest, "hasta": None}
        connection.execute(DICCIONARIO.insert(), [line | begun for line in fresh])


async def read_dictionary(reading: AsyncConnection) -> list[Line]:
    """Read all lines."""
    return [dict(row) for row in (await reading.execute(select(DICCIONARIO))).mappings()]


def adopt_dictionary(lines: Sequence[Line], connection: Connection) -> int:
    """Take over another database's `lines` of each view that it has described for longer; returns how many.

    They are the older history of the same columns. Lines that were begun here later are begun again at the next start,
    if the class is another one by then.
    """
    adopted = 0
    for view in {line["vista"] for line in lines}:
        theirs = [line for line in lines if line["vista"] == view]
        here = select(func.min(DICCIONARIO.c.desde)).where(DICCIONARIO.c.vista == view)
        began = connection.execute(here).scalar_one()
        if began is None or min(line["desde"] for line in theirs) < began:
            connection.execute(DICCIONARIO.delete().where(DICCIONARIO.c.vista == view))
            connection.execute(DICCIONARIO.insert(), theirs)
            adopted += len(theirs)
    return adopted


def _same(held: Line, line: Line) -> bool:
    return all(held[name] == value for name, value in line.items() if name != _WORDING)


def _feature_line(feature: Feature, name: str) -> Line:
    meaning = ". ".join(part.rstrip(".") for part in (feature.label, feature.description) if part)
    return _line(
        name,
        _KINDS[feature.kind],
        meaning,
        unidad=feature.unit or None,
        **_range("", feature.limits),
        **_range("referencia_", feature.reference),
        valores=", ".join(feature.choices) or None,
    )


def _line(name: str, kind: str, meaning: str, **facts: Any) -> Line:  # noqa: ANN401 - text or numbers
    empty = dict.fromkeys(("unidad", "minimo", "maximo", "referencia_minimo", "referencia_maximo", "valores"))
    return {"nombre": name, "tipo": kind, "significado": meaning, **empty, **facts}


def _range(prefix: str, limits: tuple[float, float] | None) -> Line:
    low, high = limits or (None, None)
    return {f"{prefix}minimo": low, f"{prefix}maximo": high}
