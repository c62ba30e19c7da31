import numpy as np
import pytest

from tests.support.training_cases import CLASSES, small_parameters
from training.data.cases import Floats, Labels
from training.evaluation.comparison import compare
from training.evaluation.gates import Verdict, table

SETTINGS = small_parameters().evaluation
LABELS: Labels = np.random.default_rng(0).integers(3, size=400)


def answers(right: float, *, seed: int = 0) -> Floats:
    """Return probabilities that name the true class in a share `right` of the cases, and another one in the rest."""
    hit = np.random.default_rng(seed).random(len(LABELS)) < right
    predicted = np.where(hit, LABELS, (LABELS + 1) % 3)
    probabilities: Floats = 0.1 + 0.7 * np.eye(3)[predicted]
    return probabilities


def compared(candidate: Floats, production: Floats) -> dict[str, Verdict]:
    verdicts = compare(candidate, production, LABELS, CLASSES, ["grave"], SETTINGS)
    return {verdict.gate.removeprefix("production."): verdict for verdict in verdicts}


def results(verdicts: dict[str, Verdict]) -> set[str]:
    return {verdict.remark.partition(",")[0] for verdict in verdicts.values()}


def test_a_model_does_not_differ_from_itself() -> None:
    result = compared(answers(0.9), answers(0.9))
    assert set(result) == {"accuracy", "balanced_accuracy", "log_loss", "average_precision.grave"}
    assert {(verdict.figure, verdict.interval, verdict.passed) for verdict in result.values()} == {
        (0.0, (0.0, 0.0), True)
    }
    assert results(result) == {"no difference seen"}


def test_better_and_worse_are_each_others_mirror() -> None:
    better, worse = compared(answers(0.95), answers(0.7)), compared(answers(0.7), answers(0.95))
    assert results(better) == {"better"}
    assert results(worse) == {"worse"}
    gain, loss = better["accuracy"].figure, worse["accuracy"].figure
    assert gain is not None
    assert loss == pytest.approx(-gain)
    assert (gain > 0, better["log_loss"].rule, worse["accuracy"].rule) == (True, "<=", ">=")


def test_only_what_is_worse_by_more_than_chance_is_rejected() -> None:
    assert all(verdict.passed for verdict in compared(answers(0.95), answers(0.7)).values())
    worse = compared(answers(0.7), answers(0.95))
    assert not any(verdict.passed for verdict in worse.values())
    low, high = worse["log_loss"].interval or (0.0, 0.0)
    assert 0 < low < high
    assert table(list(worse.values()))[2].endswith(f"(worse, 95 % interval {low:+.4f} to {high:+.4f})")


def test_a_difference_inside_the_noise_is_neither() -> None:
    result = compared(answers(0.9, seed=1), answers(0.9, seed=2))
    low, high = result["accuracy"].interval or (0.0, 0.0)
    assert low < 0 < high
    assert result["accuracy"].passed
    assert result["accuracy"].remark.startswith("no difference seen")


def test_a_class_without_cases_is_not_compared() -> None:
    some = CLASSES.index("grave") != LABELS
    result = compare(answers(0.9)[some], answers(0.9)[some], LABELS[some], CLASSES, ["grave"], SETTINGS)
    assert [verdict.gate for verdict in result] == [
        "production.accuracy",
        "production.balanced_accuracy",
        "production.log_loss",
    ]
