from __future__ import annotations

import pytest

from shared.bundle import Parity
from training.gates import failed, judge, table
from training.parameters import Gates

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
    )


def test_figures_exactly_at_their_bounds_pass() -> None:
    verdicts = judge(GOOD, EQUAL, gates())
    assert failed(verdicts) == []
    assert {verdict.gate for verdict in verdicts} == {*GOOD, "onnx_parity"}


@pytest.mark.parametrize("gate", GOOD)
def test_each_gate_refuses_what_is_just_beyond_it(gate: str) -> None:
    beyond = 1e-6 if gate == "expected_calibration_error" else -1e-6
    assert failed(judge(GOOD | {gate: GOOD[gate] + beyond}, EQUAL, gates())) == [gate]


@pytest.mark.parametrize("gate", GOOD)
def test_a_figure_that_is_missing_does_not_pass(gate: str) -> None:
    verdicts = judge({name: value for name, value in GOOD.items() if name != gate}, EQUAL, gates())
    assert failed(verdicts) == [gate]
    assert "no cases" in table(verdicts)


def test_unequal_onnx_is_refused_where_parity_is_a_gate_and_only_there() -> None:
    assert failed(judge(GOOD, UNEQUAL, gates())) == ["onnx_parity"]
    assert failed(judge(GOOD, UNEQUAL, gates(onnx_parity=False))) == []


def test_the_table_shows_gate_figure_bound_and_verdict() -> None:
    lines = table(judge(GOOD | {"accuracy": 0.5}, EQUAL, gates())).splitlines()
    assert lines[0].split() == ["FAILED", "accuracy", "0.5", ">=", "0.92"]
    assert lines[1].split() == ["passed", "balanced_accuracy", "0.88", ">=", "0.88"]
