"""`python -m training prepare`: read the raw CSV through the patient class and write the encoded cases."""

import argparse
import hashlib
import sys
import traceback
from collections import Counter
from pathlib import Path

import pydantic
from pydantic_core import ErrorDetails

from shared.patient import Case, DiscardedRowError, Patient, PatientClassError
from training.context import TrainingContext
from training.data.cases import Example, write_cases
from training.data.pointer import check_raw_data
from training.data.raw import RAW, Row, RowError, rows
from training.errors import DataError
from training.stage_files import CASES, Preparation

_MEASURED_KINDS = {"number", "integer"}
_FREE_TEXT = {"value_error", "assertion_error"}
"""Error types whose message comes from the disease's own code and could repeat a value."""


def prepare(raw: Path, patient: type[Patient]) -> tuple[list[Example], Preparation]:
    """Read every row of `raw`; return the encoded cases and a summary of them.

    Raises:
        DataError: the file cannot be read, or a row breaks a rule; names the first line and its rule, never a value.

    """
    examples: list[Example] = []
    discarded: Counter[str] = Counter()
    broken: list[str] = []
    for line, row in rows(raw):
        try:
            examples.append(_example(row, patient, line))
        except DiscardedRowError as error:
            discarded[str(error)] += 1
        except PatientClassError:
            raise
        except Exception as error:  # noqa: BLE001 - a disease's own code may raise anything; its author needs the line and the rule
            broken.append(f"line {line}: {_rule(error, row, patient)}")
    if broken:
        more = f" (and {len(broken) - 1:,} more rows)" if len(broken) > 1 else ""
        message = f"{raw}, {broken[0]}{more}; correct the file, or mend or discard such rows in from_row"
        raise DataError(message)
    if not examples:
        message = f"{raw}: no row is left to train on (from_row left out {discarded.total():,})"
        raise DataError(message)
    kept = Counter(diagnosis for _, diagnosis, *_ in examples)
    return examples, Preparation(
        name=patient.disease.name,
        patient_digest=patient.digest,
        data_hash=hashlib.md5(raw.read_bytes(), usedforsecurity=False).hexdigest(),
        columns=list(patient.columns),
        measured=[feature.name for feature in patient.features if feature.kind in _MEASURED_KINDS],
        classes=list(patient.disease.classes),
        disease=patient.disease,
        features=list(patient.features),
        rows_read=len(examples) + discarded.total(),
        discarded=dict(sorted(discarded.items())),
        cases={code: kept[code] for code in patient.disease.classes},
    )


def main(_: argparse.Namespace, context: TrainingContext) -> str:
    """Run the stage; return its summary."""
    check_raw_data()  # here too: `dvc pull` and `dvc repro` by hand do not compute the digest
    examples, report = prepare(RAW, context.patient)
    CASES.parent.mkdir(parents=True, exist_ok=True)
    write_cases(CASES, report.columns, examples)
    report.write()
    left_out = ", ".join(f"{count:,} ({reason})" for reason, count in report.discarded.items())
    return f"{len(examples):,} cases of {report.rows_read:,} rows" + (f"; left out: {left_out}" if left_out else "")


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


def _rule(error: Exception, row: Row, patient: type[Patient]) -> str:
    """Name the rule that the row breaks, without repeating a value of the row."""
    if isinstance(error, RowError):
        return str(error)
    if isinstance(error, pydantic.ValidationError):
        return "; ".join(_rule_of(e) for e in error.errors(include_input=False, include_url=False))
    module = Path(sys.modules[patient.__module__].__file__ or "")
    frames = traceback.extract_tb(error.__traceback__)
    frame = ([frame for frame in frames if Path(frame.filename) == module] or frames)[-1]
    rule = f"{type(error).__name__} in line {frame.lineno} of {Path(frame.filename).name}: {frame.line}"
    return f"{rule} (a number of this row has a decimal comma)" if row.has_decimal_comma else rule


def _rule_of(error: ErrorDetails) -> str:
    if error["type"] == "regla":
        return f"{error['ctx']['campo']}: {error['ctx']['regla']}"
    rule = error["type"] if error["type"] in _FREE_TEXT else error["msg"]
    return f"{'.'.join(map(str, error['loc'])) or 'row'}: {rule}"
