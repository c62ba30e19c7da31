"""Inputs of the benchmarks: the model in production and the patients of the data."""

import csv
from collections.abc import Iterator
from pathlib import Path

from shared.diseases.thyroid import DatosPaciente
from shared.patient import DiscardedRowError, Patient
from tests.support.paths import ROOT

_PATIENTS = 2000


def production() -> Path | None:
    """Return the folder of the model in production, or None if there is none."""
    folder = ROOT / "var" / "models" / DatosPaciente.disease.name / "production"
    return folder if folder.exists() else None


def patients() -> Iterator[Patient]:
    """Yield the valid patients of the last rows of the raw data."""
    with (ROOT / "data" / "raw.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[-_PATIENTS:]
    for row in rows:
        try:
            yield DatosPaciente.from_row(row).patient
        except DiscardedRowError:
            continue


def write_patients(path: Path) -> Path:
    """Write `patients` to `path`, one request body a line; return `path`."""
    path.write_text("\n".join(patient.model_dump_json(exclude_defaults=True) for patient in patients()) + "\n")
    return path
