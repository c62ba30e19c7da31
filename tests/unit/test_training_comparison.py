import numpy as np
import pytest

from tests.support.training_cases import CLASSES, small_parameters
from training.data.cases import Floats, Labels
from training.evaluation.comparison import Difference, compared_figures, differences

SETTINGS = small_parameters().evaluation
LABELS: Labels = np.random.default_rng(0).integers(3, size=400)


def answers(right: float, *, seed: int = 0) -> Floats:
    """Return probabilities that name the true class in a share `right` of the cases, and another one in the rest."""
    hit = np.random.default_rng(seed).random(len(LABELS)) < right
    predicted = np.where(hit, LABELS, (LABELS + 1) % 3)
    probabilities: Floats = 0.1 + 0.7 * np.eye(3)[predicted]
    return probabilities


def compared(candidate: Floats, production: Floats) -> dict[str, Difference]:
    names = compared_figures(["grave"])
    return {d.figure: d for d in differences(candidate, production, LABELS, CLASSES, names, SETTINGS)}


def test_a_model_does_not_differ_from_itself() -> None:
    result = compared(answers(0.9), answers(0.9))
    assert set(result) == {"accuracy", "balanced_accuracy", "log_loss", "average_precision.grave"}
    assert {(d.value, d.interval, d.result) for d in result.values()} == {(0.0, (0.0, 0.0), "no difference seen")}


def test_better_and_worse_are_each_others_mirror() -> None:
    better, worse = compared(answers(0.95), answers(0.7)), compared(answers(0.7), answers(0.95))
    assert {d.result for d in better.values()} == {"better"}
    assert {d.result for d in worse.values()} == {"worse"}
    assert better["log_loss"].value < 0 < better["accuracy"].value
    assert better["accuracy"].value == pytest.approx(-worse["accuracy"].value)


def test_a_difference_inside_the_noise_is_neither() -> None:
    result = compared(answers(0.9, seed=1), answers(0.9, seed=2))
    low, high = result["accuracy"].interval
    assert low < 0 < high
    assert result["accuracy"].result == "no difference seen"


def test_a_class_without_cases_is_not_compared() -> None:
    some = CLASSES.index("grave") != LABELS
    result = differences(
        answers(0.9)[some], answers(0.9)[some], LABELS[some], CLASSES, compared_figures(["grave"]), SETTINGS
    )
    assert [d.figure for d in result] == ["accuracy", "balanced_accuracy", "log_loss"]
