"""`python -m training check`: hold the cases against `checks` of params.yaml; what fails is not trained on.

Every check is one figure and one limit. All of them are in `var/pipeline/checks.json`, passed or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.config import read_parameters
from training.data import leakage
from training.data.cases import read_cases, read_lines
from training.data.raw import RAW
from training.data.schema import breaches
from training.data.splitting import reported
from training.errors import DataError
from training.stage_files import CASES, CHECKS, Checks, Finding, read_preparation

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from training.config import DataLimits
    from training.context import TrainingContext
    from training.data.cases import Cases, Labels, Mask

_SHOWN = 3
"""How many failures the one line of an error tells in full."""


@dataclass(frozen=True, slots=True)
class Data:
    """The cases on both sides of the split: `later` marks those reported on, `lines` are those of the raw file."""

    cases: Cases
    lines: Labels
    later: Mask
    columns: Sequence[str]
    classes: Sequence[str]

    @property
    def sides(self) -> tuple[Cases, Cases]:
        """The training cases, and those that are reported on."""
        return self.cases.where(~self.later), self.cases.where(self.later)


def findings(data: Data, limits: DataLimits) -> list[Finding]:
    """Hold `data` against `limits`."""
    number = Finding.at_least("cases", len(data.cases), limits.least_cases, "cases in the file")
    return [number, *_missing(data, limits), *_classes(data, limits), *_repeated(data, limits), *_leaking(data, limits)]


def main(_: argparse.Namespace, context: TrainingContext) -> str:
    """Run the stage; returns its summary.

    Raises:
        DataError: a row is outside what its class allows, or a check failed.

    """
    parameters, preparation = read_parameters(), read_preparation()
    cases, lines = read_cases(CASES, preparation.classes), read_lines(CASES)
    if broken := breaches(cases.rows, preparation.columns, lines, context.patient):
        message = f"{RAW}, {broken[0]}{_more(len(broken) - 1)}; correct the file, or mend from_row or derived"
        raise DataError(message)
    later = reported(cases, parameters.split)
    found = findings(Data(cases, lines, later, preparation.columns, preparation.classes), parameters.checks)
    report = Checks(data_hash=preparation.data_hash, cases=len(cases), findings=found)
    CHECKS.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if failed := [finding.told for finding in found if not finding.passed]:
        message = f"{RAW}: {'; '.join(failed[:_SHOWN])}{_more(len(failed) - _SHOWN)}; all of it is in {CHECKS}"
        raise DataError(message)
    return f"{len(found)} checks of {len(cases):,} cases passed"


def _missing(data: Data, limits: DataLimits) -> Iterator[Finding]:
    trained, asked = (np.isnan(side.rows).mean(axis=0) for side in data.sides)
    for column, *shares in zip(data.columns, trained.tolist(), asked.tolist(), strict=True):
        side = "training" if shares[0] >= shares[1] else "reported"
        limit = limits.missing_by_column.get(column, limits.missing)
        yield Finding.at_most(f"missing.{column}", max(shares), limit, f"share of the {side} cases without {column}")


def _classes(data: Data, limits: DataLimits) -> Iterator[Finding]:
    trained, asked = (np.bincount(side.labels, minlength=len(data.classes)).tolist() for side in data.sides)
    for code, count, count_asked in zip(data.classes, trained, asked, strict=True):
        share = count / sum(trained)
        yield Finding.at_least(f"class_share.{code}", share, limits.class_share, f"share of {code} in training")
        for side, number in (("training", count), ("reported", count_asked)):
            yield Finding.at_least(f"class_cases.{side}.{code}", number, limits.class_cases, f"{side} cases of {code}")


def _repeated(data: Data, limits: DataLimits) -> Iterator[Finding]:
    cases, later = data.cases, data.later.tolist()
    known = [(row.tobytes(), label) for row, label in zip(cases.rows, cases.labels.tolist(), strict=True)]
    days = [None] * len(cases) if cases.days is None else cases.days.tolist()
    first = _first(zip(known, days, strict=True))
    again = [(first[case], n) for n, case in enumerate(zip(known, days, strict=True)) if first[case] != n]
    trained = _first(case if not is_later else None for case, is_later in zip(known, later, strict=True))
    both = [(trained[case], n) for n, case in enumerate(known) if later[n] and case in trained]
    told = f"share of cases that are there before{_named(again, data.lines)}"
    yield Finding.at_most("repeated", len(again) / len(cases), limits.repeated, told)
    told = f"share of reported cases that train, too{_named(both, data.lines)}"
    yield Finding.at_most("shared", len(both) / sum(later), limits.shared, told)


def _leaking(data: Data, limits: DataLimits) -> Iterator[Finding]:
    trained, asked = data.sides
    if len(np.intersect1d(trained.labels, asked.labels)) < 2:  # noqa: PLR2004 - two classes; fewer fail their own check
        return
    seen = (
        ("leakage", "{}", leakage.by_value(trained, asked, data.columns, data.classes)),
        ("leakage_missing", "whether {} is there", leakage.by_absence(trained, asked, data.columns, data.classes)),
    )
    for check, subject, separations in seen:
        for column, found in separations.items():
            alone = f"balanced accuracy by which {subject.format(column)} alone tells"
            told = f"{alone} all classes apart"
            yield Finding.at_most(f"{check}.{column}", found.all_classes, limits.leakage.all_classes, told)
            told = f"{alone} {found.told_best} from the rest"
            yield Finding.at_most(f"{check}.{column}.one_class", found.one_class, limits.leakage.one_class, told)


def _first(cases: Iterable[object]) -> dict[object, int]:
    """Give where each case comes first."""
    first: dict[object, int] = {}
    for number, case in enumerate(cases):
        first.setdefault(case, number)
    return first


def _named(pairs: list[tuple[int, int]], lines: Labels) -> str:
    return f" (line {lines[pairs[0][1]]} is as line {lines[pairs[0][0]]})" if pairs else ""


def _more(count: int) -> str:
    return f" (and {count:,} more)" if count > 0 else ""
