"""`python -m training check`: check the cases against `checks` of params.yaml; the pipeline stops if a check fails.

Every check is one figure and one limit. All of them are written to `var/pipeline/checks.json`, passed or failed. What
later stages need of the cases is checked here, too, so that one run names everything that is wrong with the data.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from training.config import DataLimits, Parameters, read_parameters
from training.context import TrainingContext
from training.data import leakage
from training.data.cases import Cases, Labels, Mask, read_cases, read_lines, read_rule
from training.data.raw import RAW
from training.data.schema import schema_violations
from training.data.splitting import check_dates, check_enough, folds, reported
from training.errors import DataError
from training.stage_files import CASES, CheckResult, Checks, Preparation


@dataclass(frozen=True, slots=True)
class SplitCases:
    """The cases on both sides of the split: `later` marks the reported ones, `lines` are those of the raw file."""

    cases: Cases
    lines: Labels
    later: Mask
    columns: Sequence[str]
    classes: Sequence[str]

    @property
    def sides(self) -> tuple[Cases, Cases]:
        """The training cases and the reported cases."""
        return self.cases.where(~self.later), self.cases.where(self.later)


def run_checks(data: SplitCases, limits: DataLimits) -> list[CheckResult]:
    """Check `data` against `limits`."""
    count = CheckResult.at_least("cases", len(data.cases), limits.least_cases, "cases in the file")
    return [
        count,
        *_check_missing(data, limits),
        *_check_classes(data, limits),
        *_check_duplicates(data, limits),
        *_check_leakage(data, limits),
    ]


def main(_: argparse.Namespace, context: TrainingContext) -> str:
    """Run the stage; return its summary.

    Raises:
        DataError: rows break rules of their patient class, checks failed, or a later stage cannot use the cases.

    """
    parameters, preparation = read_parameters(), Preparation.read()
    cases, lines = read_cases(CASES, preparation.classes), read_lines(CASES)
    problems: list[str] = []
    if violations := schema_violations(cases.rows, preparation.columns, lines, context.patient):
        more = f" (and {len(violations) - 1:,} more)" if len(violations) > 1 else ""
        problems.append(f"{RAW}, {violations[0]}{more}; correct the file, or mend from_row or derived")
    problems += _refusals(
        lambda: read_rule(CASES, preparation.classes),
        lambda: check_dates(cases, parameters.model.recency_half_life_months),
    )
    try:
        later = reported(cases, parameters.split)
    except DataError as error:  # without a split there is nothing more to check
        raise DataError("\n".join([*problems, str(error)])) from None
    data = SplitCases(cases, lines, later, preparation.columns, preparation.classes)
    results = run_checks(data, parameters.checks)
    Checks(data_hash=preparation.data_hash, cases=len(cases), findings=results).write()
    failed = [result for result in results if not result.passed]
    problems += [f"{RAW}: {result.summary}" for result in failed]
    problems += _refusals(lambda: _check_folds(data, parameters))
    if failed:
        problems.append(f"{len(failed)} of {len(results)} checks failed; all are in {Checks.path}")
    if problems:
        raise DataError("\n".join(problems))
    return f"{len(results)} checks of {len(cases):,} cases passed"


def _refusals(*checks: Callable[[], object]) -> list[str]:
    """Return the messages of the checks that raise."""
    messages = []
    for check in checks:
        try:
            check()
        except DataError as error:
            messages.append(str(error))
    return messages


def _check_folds(data: SplitCases, parameters: Parameters) -> None:
    """Check that `train` can divide the training cases into its folds."""
    training, choice = data.sides[0], parameters.choice
    check_enough(training, data.classes, choice.folds)
    folds(training, parameters.split, choice.folds, parameters.model.seed)


def _check_missing(data: SplitCases, limits: DataLimits) -> Iterator[CheckResult]:
    in_training, in_reported = (np.isnan(side.rows).mean(axis=0).tolist() for side in data.sides)
    for column, *shares in zip(data.columns, in_training, in_reported, strict=True):
        side = "training" if shares[0] >= shares[1] else "reported"
        limit = limits.missing_by_column.get(column, limits.missing)
        description = f"share of the {side} cases without {column}"
        yield CheckResult.at_most(f"missing.{column}", max(shares), limit, description)


def _check_classes(data: SplitCases, limits: DataLimits) -> Iterator[CheckResult]:
    in_training, in_reported = (np.bincount(side.labels, minlength=len(data.classes)).tolist() for side in data.sides)
    for code, training, reported_ in zip(data.classes, in_training, in_reported, strict=True):
        share = training / sum(in_training)
        yield CheckResult.at_least(f"class_share.{code}", share, limits.class_share, f"share of {code} in training")
        for side, count in (("training", training), ("reported", reported_)):
            check = f"class_cases.{side}.{code}"
            yield CheckResult.at_least(check, count, limits.class_cases, f"{side} cases of {code}")


def _check_duplicates(data: SplitCases, limits: DataLimits) -> Iterator[CheckResult]:
    """Count cases that repeat values, diagnosis and date of another, and reported cases that are training cases too."""
    cases, later = data.cases, data.later.tolist()
    contents = [(row.tobytes(), label) for row, label in zip(cases.rows, cases.labels.tolist(), strict=True)]
    days = [None] * len(cases) if cases.days is None else cases.days.tolist()
    dated = list(zip(contents, days, strict=True))
    first = {case: n for n, case in reversed([*enumerate(dated)])}  # of equal cases the first stays
    repeated = [(first[case], n) for n, case in enumerate(dated) if first[case] != n]
    trained = {case: n for n, case in reversed([*enumerate(contents)]) if not later[n]}
    shared = [(trained[case], n) for n, case in enumerate(contents) if later[n] and case in trained]
    description = f"share of cases that repeat another{_example(repeated, data.lines)}"
    yield CheckResult.at_most("repeated", len(repeated) / len(cases), limits.repeated, description)
    description = f"share of reported cases that are training cases too{_example(shared, data.lines)}"
    yield CheckResult.at_most("shared", len(shared) / sum(later), limits.shared, description)


def _check_leakage(data: SplitCases, limits: DataLimits) -> Iterator[CheckResult]:
    training, reported_ = data.sides
    if len(np.intersect1d(training.labels, reported_.labels)) < 2:  # noqa: PLR2004 - two classes; fewer fail their own check
        return
    kinds = (
        ("leakage", "{} alone", leakage.by_value(training, reported_, data.columns, data.classes)),
        ("leakage_missing", "presence of {}", leakage.by_absence(training, reported_, data.columns, data.classes)),
    )
    for check, predictor, separations in kinds:
        for column, separation in separations.items():
            figure = f"balanced accuracy of {predictor.format(column)}"
            limit = limits.leakage.all_classes
            yield CheckResult.at_most(f"{check}.{column}", separation.all_classes, limit, f"{figure}, all classes")
            limit, description = limits.leakage.one_class, f"{figure}, {separation.best_class} against the rest"
            yield CheckResult.at_most(f"{check}.{column}.one_class", separation.one_class, limit, description)


def _example(pairs: list[tuple[int, int]], lines: Labels) -> str:
    return f" (line {lines[pairs[0][1]]} repeats line {lines[pairs[0][0]]})" if pairs else ""
