"""Checks of a declared disease, beyond types: each function yields every fault as one line."""

import re
from collections.abc import Iterator, Mapping, Sequence

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
"""Disease names become folders, MLflow models and URLs; codes become columns and values in answers."""
_FEWEST_DIAGNOSES = 2


def disease_faults(name: str, codes: Sequence[str]) -> Iterator[str]:
    """Check the name of a disease and the codes of its diagnoses."""
    named = [(f"Disease(name={name!r})", name), *((f"Diagnosis({code!r})", code) for code in codes)]
    for where, word in named:
        if not _IDENTIFIER.fullmatch(word):
            yield f"{where}: use lower-case letters without accents, digits and _, and begin with a letter"
    for code in dict.fromkeys(code for code in codes if codes.count(code) > 1):
        yield f"Diagnosis({code!r}): this code is declared twice; give each diagnosis a code of its own"
    if len(codes) < _FEWEST_DIAGNOSES:
        yield f"Disease(name={name!r}): diagnoses lists {len(codes)}; a model needs two or more to choose from"


def range_faults(
    feature: str, limits: tuple[float, float] | None, reference: tuple[float, float] | None
) -> Iterator[str]:
    """Check that the ranges of `feature` are ascending, and that `reference` lies within `limits`."""
    descending = [
        (name, bounds)
        for name, bounds in (("limits", limits), ("reference", reference))
        if bounds is not None and not bounds[0] < bounds[1]
    ]
    for name, bounds in descending:
        yield f"feature {feature}: {name}={_text(bounds)}: the first must be below the second"
    if limits and reference and not descending and not (limits[0] <= reference[0] and reference[1] <= limits[1]):
        yield f"feature {feature}: reference={_text(reference)} is not within limits={_text(limits)}"


def units_faults(feature: str, others: Mapping[str, float]) -> Iterator[str]:
    """Check that the factors from other units into the unit of `feature` are positive and not 1."""
    for unit, factor in others.items():
        if factor <= 0 or factor == 1:
            yield f"feature {feature}: other_units[{unit!r}]: the factor must be above 0, and not 1"


def _text(bounds: tuple[float, float]) -> str:
    return f"({bounds[0]:g}, {bounds[1]:g})"
