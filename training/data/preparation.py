"""Preparation of the cases: every row of the raw CSV, read through the patient class and encoded."""

import hashlib
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import pydantic
from pydantic_core import ErrorDetails

from shared.files import read_regular
from shared.patient import Case, DiscardedRowError, Patient, PatientClassError
from training.data.cases import Example
from training.data.raw import LARGEST, Row, RowError, rows
from training.errors import DataError
from training.stage_files import Preparation

_MEASURED_KINDS = {"number", "integer"}
_SHOWN = 10
"""Broken rules that an error names; the others are counted."""
_FREE_TEXT = {"value_error", "assertion_error"}
"""Error types whose message comes from the disease's own code and could repeat a value."""


def prepare(raw: Path, patient: type[Patient]) -> tuple[list[Example], Preparation]:
    """Read every row of `raw`; return the encoded cases and a summary of them.

    Raises:
        DataError: the file cannot be read, or rows break rules; names every rule with its first line, never a value.

    """
    examples: list[Example] = []
    discarded: Counter[str] = Counter()
    broken: dict[str, list[int]] = {}
    file_fault: DataError | None = None
    try:
        for line, row in rows(raw):
            try:
                examples.append(_example(row, patient, line))
            except DiscardedRowError as error:
                discarded[str(error)] += 1
            except PatientClassError:
                raise
            except Exception as error:  # noqa: BLE001 - a disease's own code may raise anything; its author needs the line and the rule
                for rule in _rules(error, row, patient):
                    broken.setdefault(rule, []).append(line)
    except DataError as error:
        file_fault = error  # the rows before it are read, and may have faults, too
    if broken or file_fault:
        raise DataError("\n".join([*_named(raw, broken), *([str(file_fault)] if file_fault else [])]))
    if not examples:
        message = f"{raw}: no row is left to train on (from_row left out {discarded.total():,})"
        raise DataError(message)
    kept = Counter(diagnosis for _, diagnosis, *_ in examples)
    return examples, Preparation(
        name=patient.disease.name,
        patient_digest=patient.digest,
        data_hash=hashlib.md5(read_regular(raw, LARGEST), usedforsecurity=False).hexdigest(),
        columns=list(patient.columns),
        measured=[feature.name for feature in patient.features if feature.kind in _MEASURED_KINDS],
        classes=list(patient.disease.classes),
        disease=patient.disease,
        features=list(patient.features),
        rows_read=len(examples) + discarded.total(),
        discarded=dict(sorted(discarded.items())),
        cases={code: kept[code] for code in patient.disease.classes},
    )


def _example(row: Row, patient: type[Patient], line: int) -> Example:
    case = patient.from_row(row)
    if not isinstance(case, Case):
        message = "from_row does not return a Case"
        raise RowError(message)
    if case.diagnosis not in patient.disease.classes:
        message = f"from_row returns a diagnosis that {patient.__name__}.disease does not list"
        raise RowError(message)
    by_rule = case.patient.by_rule()
    if by_rule not in {None, *patient.disease.classes}:
        message = f"by_rule returns a diagnosis that {patient.__name__}.disease does not list"
        raise RowError(message)
    return Example(case.patient.encode(), case.diagnosis, case.date, line, by_rule or "")


def _named(raw: Path, broken: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Yield a line for each rule, with the first line of the file that breaks it and the number of the others."""
    for rule, (first, *others) in islice(broken.items(), _SHOWN):
        more = f" (and {len(others):,} more rows)" if others else ""
        yield f"{raw}, line {first}: {rule}{more}; correct the file, or mend or discard such rows in from_row"
    if len(broken) > _SHOWN:
        yield f"{raw}: {len(broken) - _SHOWN:,} more rules are broken"


def _rules(error: Exception, row: Row, patient: type[Patient]) -> list[str]:
    """Name the rules that the row breaks, without repeating a value of the row."""
    if isinstance(error, RowError):
        return [str(error)]
    if isinstance(error, pydantic.ValidationError):
        return list(dict.fromkeys(_rule_of(e) for e in error.errors(include_input=False, include_url=False)))
    module = Path(sys.modules[patient.__module__].__file__ or "")
    frames = traceback.extract_tb(error.__traceback__)
    frame = ([frame for frame in frames if Path(frame.filename) == module] or frames)[-1]
    rule = f"{type(error).__name__} in line {frame.lineno} of {Path(frame.filename).name}: {frame.line}"
    return [f"{rule} (a number of this row has a decimal comma)" if row.has_decimal_comma else rule]


def _rule_of(error: ErrorDetails) -> str:
    if error["type"] == "regla":
        return f"{error['ctx']['campo']}: {error['ctx']['regla']}"
    rule = error["type"] if error["type"] in _FREE_TEXT else error["msg"]
    return f"{'.'.join(map(str, error['loc'])) or 'row'}: {rule}"
