import math

import numpy as np
import pytest
from onnx import ModelProto

from shared.artifacts.bundle import Parity
from tests.support.training_cases import made_up_cases, small_parameters
from training.commands.evaluate import prove
from training.model import boosting
from training.model.onnx import boundary_rows, convert, golden_rows, parity

TOLERANCE = 1e-5


@pytest.mark.parametrize("classes", [2, 3])
def test_onnx_equals_the_pickle_on_training_boundary_and_golden_rows(classes: int) -> None:
    cases = made_up_cases(classes=classes)
    model = boosting.merge(boosting.fit(cases, 0.5, small_parameters().model), 1.3)
    proof = prove(model, convert(model), cases.rows, TOLERANCE, seed=0)
    assert proof.parity.passed
    assert proof.parity.label_flips == 0
    assert proof.parity.rows > len(cases) + len(proof.golden.rows)
    assert np.array(proof.golden.probabilities).shape == (len(proof.golden.rows), classes)


def test_an_onnx_model_of_another_temperature_fails_parity() -> None:
    cases = made_up_cases()
    members = boosting.fit(cases, 0.0, small_parameters().model)
    model, other = boosting.merge(members, 1.0), boosting.merge(members, 1.2)
    result = parity(model, convert(other), cases.rows, TOLERANCE)
    assert not result.passed
    assert result.max_abs_difference > TOLERANCE
    assert result.label_flips == 0


def test_an_onnx_model_that_changes_one_answer_fails_parity() -> None:
    cases = made_up_cases()
    model, other = (boosting.merge(boosting.fit(cases, power, small_parameters().model), 1.0) for power in (0.0, 1.0))
    result = parity(model, convert(other), cases.rows, tolerance=1.0)
    assert not result.passed
    assert result.max_abs_difference <= result.tolerance
    assert result.label_flips > 0


def test_the_onnx_model_of_another_number_of_classes_is_rejected() -> None:
    two, three = (made_up_cases(classes=classes) for classes in (2, 3))
    model, other = (boosting.merge(boosting.fit(cases, 0.0, small_parameters().model), 1.0) for cases in (two, three))
    assert not parity(model, convert(other), two.rows, TOLERANCE).passed


def test_an_onnx_model_that_answers_nan_fails_parity() -> None:
    cases = made_up_cases()
    model = boosting.merge(boosting.fit(cases, 0.0, small_parameters().model), 1.0)
    onnx = ModelProto.FromString(convert(model))
    [base] = [field for node in onnx.graph.node for field in node.attribute if field.name == "base_values"]
    base.floats[0] = math.nan
    result = parity(model, onnx.SerializeToString(), cases.rows, tolerance=1.0)
    assert not result.passed
    assert Parity.model_validate_json(result.model_dump_json()) == result


def test_boundary_rows_lie_just_below_at_and_just_above_every_threshold() -> None:
    cases = made_up_cases()
    model = boosting.merge(boosting.fit(cases, 0.0, small_parameters().model), 1.0)
    finite = [(column, value) for column, value in boosting.thresholds(model) if np.isfinite(value)]
    rows = boundary_rows(model, cases.rows, seed=0)
    assert len(rows) == 3 * len(finite)
    for index, (column, value) in enumerate(finite):
        below, at, above = rows[3 * index : 3 * index + 3, column]
        assert below < at == value < above
        assert not set(np.linspace(below, above, 9, dtype=np.float32)) - {below, at, above}  # nothing in between


def test_golden_rows_are_of_no_real_patient() -> None:
    rows = made_up_cases().rows
    golden = golden_rows(rows, seed=0)
    for column in range(rows.shape[1]):
        assert np.isin(golden[:, column], rows[:, column]).all() or np.isnan(golden[:, column]).any()
    known = {row.tobytes() for row in rows}
    assert not [row for row in golden if row.tobytes() in known]
