"""The patient class of a disease: every public name of this package is imported from here."""

from shared.patient.card_text import UNDECLARED, About
from shared.patient.schema import (
    Case,
    Diagnosis,
    DiscardedRowError,
    Disease,
    Feature,
    Kind,
    Patient,
    PatientClassError,
    Range,
    Remark,
    choice,
    flag,
    load_patient,
    measure,
    rule_broken,
)

__all__ = [
    "UNDECLARED",
    "About",
    "Case",
    "Diagnosis",
    "DiscardedRowError",
    "Disease",
    "Feature",
    "Kind",
    "Patient",
    "PatientClassError",
    "Range",
    "Remark",
    "choice",
    "flag",
    "load_patient",
    "measure",
    "rule_broken",
]
