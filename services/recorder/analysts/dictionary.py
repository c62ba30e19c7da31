"""The data dictionary `diccionario`: the meaning of each column of the analysts' view, from the patient class.

A column whose meaning changed keeps its former entry, with the time of the change, so that old rows can still be read.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, select

from services.recorder.analysts.views import column_names, fixed_columns, view_name
from services.recorder.db.tables import DICCIONARIO
from shared.patient import Feature, Patient

_KINDS = {"number": "número", "integer": "entero", "flag": "sí o no", "choice": "categoría"}
_WORDING = "significado"
"""May be corrected in place; a change of any other fact is another meaning."""
Entry = dict[str, Any]
"""A row of `diccionario`."""


def column_entries(patient: type[Patient], zone: ZoneInfo) -> list[Entry]:
    """Return an entry per column of the view, without times: names as in the view, ranges in `unidad`."""
    names = column_names(patient)
    diagnoses = "; ".join(f"{diagnosis.code} = {diagnosis.label}" for diagnosis in patient.disease.diagnoses)
    fixed = [
        _entry(column.name, column.kind, column.meaning, valores=diagnoses if column.kind == "categoría" else None)
        for column in fixed_columns(zone)
    ]
    return [*fixed, *(_feature_entry(feature, names[feature.name]) for feature in patient.features)]


def update_dictionary(connection: Connection, patient: type[Patient], zone: ZoneInfo, now: datetime) -> None:
    """Update the dictionary to `patient` and `zone`.

    Entries that changed or are gone end, new ones are inserted, and wording is corrected.
    """
    table, view = DICCIONARIO.c, view_name(patient)
    current = select(DICCIONARIO).where(table.vista == view, table.hasta.is_(None))
    former = {row["nombre"]: dict(row) for row in connection.execute(current).mappings()}
    entries = {entry["nombre"]: entry for entry in column_entries(patient, zone)}
    for name, entry in former.items():
        update = DICCIONARIO.update().where(table.vista == view, table.nombre == name, table.hasta.is_(None))
        if name not in entries or not _same_meaning(entry, entries[name]):
            connection.execute(update.values(hasta=now))
        elif entry[_WORDING] != entries[name][_WORDING]:
            connection.execute(update.values({_WORDING: entries[name][_WORDING]}))
    new = [entry for name, entry in entries.items() if name not in former or not _same_meaning(former[name], entry)]
    if new:
        since = {"vista": view, "desde": now, "desde_paciente": patient.digest, "hasta": None}
        connection.execute(DICCIONARIO.insert(), [entry | since for entry in new])


def merge_dictionary(entries: Sequence[Entry], connection: Connection) -> int:
    """Replace the entries of each view that another database has described for longer; return how many are inserted.

    `entries` are those of the other database: the older history of the same columns. An entry that is newer here is
    inserted again at the next start, if the patient class is another one by then.
    """
    inserted = 0
    for view in {entry["vista"] for entry in entries}:
        of_view = [entry for entry in entries if entry["vista"] == view]
        oldest = select(func.min(DICCIONARIO.c.desde)).where(DICCIONARIO.c.vista == view)
        began = connection.execute(oldest).scalar_one()
        if began is None or min(entry["desde"] for entry in of_view) < began:
            connection.execute(DICCIONARIO.delete().where(DICCIONARIO.c.vista == view))
            connection.execute(DICCIONARIO.insert(), of_view)
            inserted += len(of_view)
    return inserted


def _same_meaning(former: Entry, entry: Entry) -> bool:
    return all(former[name] == value for name, value in entry.items() if name != _WORDING)


def _feature_entry(feature: Feature, name: str) -> Entry:
    meaning = ". ".join(part.rstrip(".") for part in (feature.label, feature.description) if part)
    return _entry(
        name,
        _KINDS[feature.kind],
        meaning,
        unidad=feature.unit or None,
        **_range("", feature.limits),
        **_range("referencia_", feature.reference),
        valores=", ".join(feature.choices) or None,
    )


def _entry(name: str, kind: str, meaning: str, **facts: Any) -> Entry:  # noqa: ANN401 - text or numbers
    empty = dict.fromkeys(("unidad", "minimo", "maximo", "referencia_minimo", "referencia_maximo", "valores"))
    return {"nombre": name, "tipo": kind, "significado": meaning, **empty, **facts}


def _range(prefix: str, limits: tuple[float, float] | None) -> Entry:
    low, high = limits or (None, None)
    return {f"{prefix}minimo": low, f"{prefix}maximo": high}
