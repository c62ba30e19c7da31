import pytest

from shared.artifacts.bundle import Parity
from training.config import Gates, LatencyGate, SubgroupGate
from training.evaluation.gates import (
    GateReport,
    Verdict,
    check_data_checks,
    check_figures,
    check_latency,
    check_subgroups,
    table,
)
from training.model.latency import Latency
from training.stage_files import CheckResult, Checks, Subgroup

EQUAL = Parity(rows=9, max_abs_difference=1e-7, label_flips=0, tolerance=1e-5, passed=True)
UNEQUAL = Parity(rows=9, max_abs_difference=1e-7, label_flips=1, tolerance=1e-5, passed=False)
GOOD = {
    "accuracy": 0.92,
    "balanced_accuracy": 0.88,
    "average_precision.raro": 0.74,
    "recall.raro": 0.7,
    "expected_calibration_error": 0.02,
}


def gates(*, onnx_parity: bool = True) -> Gates:
    return Gates(
        accuracy=0.92,
        balanced_accuracy=0.88,
        average_precision={"raro": 0.74},
        recall={"raro": 0.7},
        expected_calibration_error=0.02,
        onnx_parity=onnx_parity,
        latency=LatencyGate(one_row_p99_ms=5.0, row_in_batch_us=50.0),
        subgroups=SubgroupGate(least_cases=100, accuracy=0.9, balanced_accuracy=0.8),
    )


def failed(verdicts: list[Verdict]) -> list[str]:
    report = GateReport(version="2", data_hash="0" * 32, cases=9, production="1", verdicts=verdicts, remarks=[])
    return report.failed


def test_figures_exactly_at_their_bounds_pass() -> None:
    verdicts = check_figures(GOOD, EQUAL, gates())
    assert failed(verdicts) == []
    assert {verdict.gate for verdict in verdicts} == {*GOOD, "onnx_parity"}


@pytest.mark.parametrize("gate", GOOD)
def test_each_gate_rejects_what_is_just_beyond_it(gate: str) -> None:
    beyond = 1e-6 if gate == "expected_calibration_error" else -1e-6
    assert failed(check_figures(GOOD | {gate: GOOD[gate] + beyond}, EQUAL, gates())) == [gate]


@pytest.mark.parametrize("gate", GOOD)
def test_a_figure_that_is_missing_does_not_pass(gate: str) -> None:
    verdicts = check_figures({name: value for name, value in GOOD.items() if name != gate}, EQUAL, gates())
    assert failed(verdicts) == [gate]
    assert "no cases" in "".join(table(verdicts))


def test_unequal_onnx_is_rejected_where_parity_is_a_gate_and_only_there() -> None:
    assert failed(check_figures(GOOD, UNEQUAL, gates())) == ["onnx_parity"]
    assert failed(check_figures(GOOD, UNEQUAL, gates(onnx_parity=False))) == []


def test_the_table_shows_gate_figure_bound_and_verdict() -> None:
    lines = table(check_figures(GOOD | {"accuracy": 0.5}, EQUAL, gates()))
    assert lines[0].split() == ["FAILED", "accuracy", "0.5", ">=", "0.92"]
    assert lines[1].split() == ["passed", "balanced_accuracy", "0.88", ">=", "0.88"]


@pytest.mark.parametrize(
    ("latency", "missed"),
    [
        (Latency(5.0, 50.0), []),
        (Latency(5.1, 50.0), ["latency.one_row_p99_ms"]),
        (Latency(5.0, 50.1), ["latency.row_in_batch_us"]),
    ],
)
def test_a_model_that_takes_too_long_is_rejected(latency: Latency, missed: list[str]) -> None:
    assert failed(check_latency(latency, gates())) == missed


def group(cases: int, **figures: float) -> Subgroup:
    return Subgroup(feature="sexo", group="F", cases=cases, class_cases={}, figures=figures, intervals={})


@pytest.mark.parametrize(
    ("measured", "missed"),
    [
        (group(100, accuracy=0.9, balanced_accuracy=0.8), []),
        (group(100, accuracy=0.89, balanced_accuracy=0.8), ["subgroups.sexo.F.accuracy"]),
        (group(100, accuracy=0.9, balanced_accuracy=0.79), ["subgroups.sexo.F.balanced_accuracy"]),
        (group(99, accuracy=0.5, balanced_accuracy=0.5), []),
        (group(100), ["subgroups.sexo.F.accuracy", "subgroups.sexo.F.balanced_accuracy"]),
    ],
)
def test_a_group_that_is_large_enough_must_reach_the_floors_for_groups(measured: Subgroup, missed: list[str]) -> None:
    assert failed(check_subgroups([measured], gates())) == missed


def test_data_that_failed_a_check_are_rejected_by_its_name() -> None:
    leak = CheckResult.at_most("leakage.alta", 0.97, 0.6, "balanced accuracy of alta alone")
    fine = CheckResult.at_most("repeated", 0.0, 0.01, "share of cases that repeat another")
    verdict = check_data_checks(Checks(data_hash="a", cases=9, findings=[fine, leak]), "a")
    assert (verdict.passed, verdict.remark) == (False, "leakage.alta")
    assert check_data_checks(Checks(data_hash="a", cases=9, findings=[fine]), "a").passed


def test_checks_of_other_data_do_not_count() -> None:
    assert not check_data_checks(Checks(data_hash="a", cases=9, findings=[]), "b").passed
