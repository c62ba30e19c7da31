import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.builds import Workspace, good_build, write_pipeline_files
from tests.support.bundles import PacienteDePrueba, random_rows
from tests.support.training_cases import CLASSES, made_up_cases, small_parameters
from training.commands.check import SplitCases, main, run_checks
from training.config import Choice
from training.data.cases import Cases
from training.data.schema import schema_violations
from training.data.splitting import reported
from training.errors import DataError
from training.stage_files import CASES, CheckResult

COLUMNS = ("a", "b", "c", "d")
LIMITS = small_parameters().checks


def data(cases: Cases) -> SplitCases:
    later = reported(cases, small_parameters().split)
    return SplitCases(cases, np.arange(2, len(cases) + 2), later, COLUMNS, CLASSES)


def failed(cases: Cases, **limits: object) -> list[CheckResult]:
    return [result for result in run_checks(data(cases), LIMITS.model_copy(update=limits)) if not result.passed]


def altered(column: int, values: npt.NDArray[np.generic]) -> Cases:
    cases = made_up_cases()
    rows = cases.rows.copy()
    rows[:, column] = values
    return replace(cases, rows=rows)


def test_good_data_pass_every_check() -> None:
    results = run_checks(data(made_up_cases()), LIMITS)
    assert {result.check for result in results} >= {
        "missing.a",
        "class_share.grave",
        "class_cases.reported.grave",
        "repeated",
        "shared",
        "leakage.a",
        "leakage_missing.d.one_class",
    }
    assert [result.summary for result in results if not result.passed] == []
    figures = {result.check: result.figure for result in results}
    assert figures["leakage_missing.a"] < 0.5 < figures["leakage.a"], "it tells by its values, not by being there"


def test_a_table_that_lost_cases_is_named() -> None:
    [result] = failed(made_up_cases(), least_cases=401)
    assert result.summary == "cases: cases in the file: 400, at least 401"


def test_a_column_missing_too_often_on_one_side_is_named() -> None:
    values = np.zeros(400, dtype=np.float32)
    values[300:] = np.nan
    [result] = failed(altered(3, values))
    assert result.summary == "missing.d: share of the reported cases without d: 0.7937, at most 0.2"
    assert failed(altered(3, values), missing_by_column={"d": 1.0}) == []


def test_a_class_that_is_too_rare_is_named() -> None:
    assert [result.summary for result in failed(made_up_cases(), class_cases=30, class_share=0.25)] == [
        "class_share.enfermo: share of enfermo in training: 0.2445, at least 0.25",
        "class_cases.reported.grave: reported cases of grave: 29, at least 30",
    ]


def test_a_class_missing_from_one_side_is_named() -> None:
    cases = made_up_cases()
    labels = np.where(reported(cases, small_parameters().split), 0, 1 + (cases.labels == 2))
    assert "class_cases.reported.enfermo" in [result.check for result in failed(replace(cases, labels=labels))]


def test_the_same_case_on_both_sides_of_the_split_is_named_by_its_lines() -> None:
    cases = made_up_cases()
    rows, labels = cases.rows.copy(), cases.labels.copy()
    rows[390], labels[390] = rows[10], labels[10]
    [result] = failed(replace(cases, rows=rows, labels=labels))
    assert (result.check, result.figure) == ("shared", round(1 / int(data(cases).later.sum()), 6))
    assert "(line 392 repeats line 12)" in result.summary


def test_a_case_that_is_there_twice_on_one_day_is_named_by_its_lines() -> None:
    cases = made_up_cases()
    assert cases.days is not None
    rows, labels, days = cases.rows.copy(), cases.labels.copy(), cases.days.copy()
    rows[11], labels[11] = rows[10], labels[10]
    assert failed(replace(cases, rows=rows, labels=labels)) == [], "the same values on another day may be another case"
    days[11] = days[10]
    [result] = failed(replace(cases, rows=rows, labels=labels, days=days))
    assert result.summary == "repeated: share of cases that repeat another (line 13 repeats line 12): 0.0025, at most 0"


def test_a_column_filled_in_from_the_diagnosis_is_named() -> None:
    noise = np.random.default_rng(1).normal(0, 0.05, 400)
    results = failed(altered(2, made_up_cases().labels + noise))
    assert [result.check for result in results] == ["leakage.c", "leakage.c.one_class"]
    assert "balanced accuracy of c alone, all classes: 1, at most 0.95" in results[0].summary


def test_a_column_that_gives_away_one_class_only_is_named() -> None:
    values = np.random.default_rng(1).normal(size=400)
    values[made_up_cases().labels == 1] = 20
    [result] = failed(altered(2, values))
    assert result.summary.startswith("leakage.c.one_class: balanced accuracy of c alone, enfermo against the rest")


def test_a_column_that_is_there_only_for_one_class_is_named() -> None:
    values = np.where(made_up_cases().labels == 2, np.random.default_rng(1).normal(size=400), np.nan)
    assert "leakage_missing.d.one_class" in [result.check for result in failed(altered(3, values), missing=1.0)]


def test_rows_as_the_class_encodes_them_keep_its_schema() -> None:
    rows = np.array(random_rows(PacienteDePrueba, 200), dtype=np.float32)
    rows[:, 3] = np.nan_to_num(rows[:, 3])  # a flag is never missing
    assert schema_violations(rows, PacienteDePrueba.columns, np.arange(200), PacienteDePrueba) == []


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("edad", 120.5, "not a whole number"),
        ("edad", 121, "outside its limits"),
        ("sexo", 2, "none of its choices"),
        ("glucosa", 1000.001, "outside its limits"),
        ("fumador", 0.5, "neither yes nor no"),
        ("fumador", np.nan, "not_nullable"),
    ],
)
def test_an_invalid_encoded_value_is_named_by_line_and_rule(column: str, value: float, rule: str) -> None:
    rows = np.array([[30, 0, 90, 1], [31, 1, 95, 0]], dtype=np.float32)
    rows[1, PacienteDePrueba.columns.index(column)] = value
    violations = schema_violations(rows, PacienteDePrueba.columns, np.array([2, 3]), PacienteDePrueba)
    assert f"line 3: {column}: {rule}" in violations
    assert all(violation.startswith(f"line 3: {column}: ") for violation in violations)


def test_encoded_values_that_break_a_rule_stop_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = made_up_cases().rows[:, 2].copy()
    values[[10, 20]] = 101
    write_pipeline_files(good_build(), altered(2, values))
    rule = (
        r"^data/raw\.csv, line 12: c: outside its limits \(and 1 more\); correct the file, or mend from_row or derived$"
    )
    with pytest.raises(DataError, match=rule):
        main(argparse.Namespace(), Workspace().context)


def test_everything_that_a_later_stage_would_reject_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parameters = small_parameters().model_copy(
        update={
            "checks": LIMITS.model_copy(update={"least_cases": 401}),
            "choice": Choice(folds=20, class_weight_powers=[0.0]),
        }
    )
    values = made_up_cases().rows[:, 2].copy()
    values[10] = 101
    labels = made_up_cases().labels.copy()
    labels[(labels == 2) & (np.arange(400) % 2 == 0)] = 0
    build = replace(good_build(), parameters=parameters)
    write_pipeline_files(build, replace(altered(2, values), labels=labels))
    lines = CASES.read_text().splitlines()
    CASES.write_text("\n".join([lines[0], lines[1].replace(",,", ",sano,", 1), *lines[2:]]) + "\n")
    with pytest.raises(DataError) as caught:
        main(argparse.Namespace(), Workspace().context)
    named = str(caught.value).splitlines()
    assert named[0].startswith("data/raw.csv, line 12: c: outside its limits")
    assert named[1] == "by_rule has no answer for 399 of 400 cases; it must answer all or none"
    assert named[2] == "data/raw.csv: cases: cases in the file: 400, at least 401"
    assert named[-2].startswith("too few training cases: grave has ")
    assert named[-1].endswith("checks failed; all are in var/pipeline/checks.json")


def test_columns_in_another_order_are_rejected() -> None:
    rows = np.array([[30, 0, 90, 1]], dtype=np.float32)
    assert schema_violations(rows, PacienteDePrueba.columns[::-1], np.array([2]), PacienteDePrueba)
