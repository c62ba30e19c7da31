"""Checks of a declared disease, beyond types: each function returns the first fault as one line, or None."""

import re
from collections.abc import Mapping, Sequence

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
"""Disease names become folders, MLflow models and URLs; codes become columns and values in answers."""
_FEWEST_DIAGNOSES = 2


def disease_fault(name: str, codes: Sequence[str]) -> str | None:
    """Check the name of a disease and the codes of its diagnoses."""
    named = [(f"Disease(name={name!r})", name), *((f"Diagnosis({code!r})", code) for code in codes)]
    for where, word in named:
        if not _IDENTIFIER.fullmatch(word):
            return f"{where}: use lower-case letters without accents, digits and _, and begin with a letter"
    twice = next((code for code in codes if codes.count(code) > 1), None)
    if twice is not None:
        return f"Diagnosis({twice!r}): this code is declared twice; give each diagnosis a code of its own"
    if len(codes) < _FEWEST_DIAGNOSES:
        return f"Disease(name={name!r}): diagnoses lists {len(codes)}; a model needs two or more to choose from"
    return None


def range_fault(feature: str, limits: tuple[float, float] | None, reference: tuple[float, float] | None) -> str | None:
    """Check that the ranges of `feature` are ascending, and that `reference` lies within `limits`."""
    for name, bounds in (("limits", limits), ("reference", reference)):
        if bounds is not None and not bounds[0] < bounds[1]:
            return f"feature {feature}: {name}={_text(bounds)}: the first must be below the second"
    if limits and reference and not (limits[0] <= reference[0] and reference[1] <= limits[1]):
        return f"feature {feature}: reference={_text(reference)} is not within limits={_text(limits)}"
    return None


def units_fault(feature: str, others: Mapping[str, float]) -> str | None:
    """Check that the factors from other units into the unit of `feature` are positive and not 1."""
    unit = next((unit for unit, factor in others.items() if factor <= 0 or factor == 1), None)
    return unit and f"feature {feature}: other_units[{unit!r}]: the factor must be above 0, and not 1"


def _text(bounds: tuple[float, float]) -> str:
    return f"({bounds[0]:g}, {bounds[1]:g})"
