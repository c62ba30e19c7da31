import numpy as np
import pytest
from sklearn import metrics

from tests.support.training_cases import CLASSES
from training.config import Evaluation
from training.data.cases import Floats, Labels
from training.evaluation.metrics import (
    bootstrap_intervals,
    bootstrap_weights,
    calibration_curve,
    figures,
    weighted,
)

BINS = 10


def answers(count: int = 300, seed: int = 0) -> tuple[Floats, Labels]:
    """Return probabilities with ties (tenths, then normalised) and labels that correlate with them."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=[0.7, 0.2, 0.1]).astype(np.int64)
    scores = rng.random((count, 3)) + 0.7 * np.eye(3)[labels]
    scores = np.round(scores, 1) + 0.05
    return scores / scores.sum(axis=1, keepdims=True), labels


def test_every_figure_equals_scikit_learns() -> None:
    probabilities, labels = answers()
    predicted = probabilities.argmax(axis=1)
    values = figures(probabilities, labels, CLASSES, BINS)
    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "log_loss": metrics.log_loss(labels, probabilities),
        "overconfidence": (probabilities.max(axis=1) - (predicted == labels)).mean(),
        "brier": ((probabilities - np.eye(3)[labels]) ** 2).sum(axis=1).mean(),
    }
    for index, code in enumerate(CLASSES):
        truth, guess, score = labels == index, predicted == index, probabilities[:, index]
        expected[f"recall.{code}"] = metrics.recall_score(truth, guess)
        expected[f"precision.{code}"] = metrics.precision_score(truth, guess)
        expected[f"f1.{code}"] = metrics.f1_score(truth, guess)
        expected[f"average_precision.{code}"] = metrics.average_precision_score(truth, score)
        expected[f"roc_auc.{code}"] = metrics.roc_auc_score(truth, score)
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert set(values) == {*expected, "expected_calibration_error"}


def test_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    probabilities = np.array([[0.95, 0.05]] * 10 + [[0.35, 0.65]] * 10)
    labels = np.array([0] * 8 + [1] * 2 + [1] * 7 + [0] * 3)  # 80 % right at 0.95, 70 % right at 0.65
    values = figures(probabilities, labels, CLASSES[:2], BINS)
    assert values["expected_calibration_error"] == pytest.approx((0.15 + 0.05) / 2)
    confidence, share, size = calibration_curve(probabilities, labels, BINS)
    assert confidence == pytest.approx([0.65, 0.95])
    assert share == pytest.approx([0.7, 0.8])
    assert size.tolist() == [10, 10]


def test_weights_count_as_repeated_cases() -> None:
    probabilities, labels = answers()
    repeats = np.random.default_rng(1).integers(0, 4, len(labels))
    values = weighted(probabilities, labels, CLASSES, BINS, repeats[None, :].astype(np.float64))
    repeated = figures(np.repeat(probabilities, repeats, axis=0), np.repeat(labels, repeats), CLASSES, BINS)
    assert {name: float(values[0]) for name, values in values.items()} == pytest.approx(repeated, abs=1e-6)


def test_a_class_that_does_not_occur_has_no_figures_and_spoils_no_other() -> None:
    probabilities, labels = answers()
    labels = np.minimum(labels, 1)
    values = figures(probabilities, labels, CLASSES, BINS)
    assert not {"recall.grave", "average_precision.grave", "roc_auc.grave"} & set(values)
    assert values["balanced_accuracy"] == pytest.approx(
        (values["recall.sano"] + values["recall.enfermo"]) / 2, abs=1e-6
    )


@pytest.mark.parametrize("count", [300, 3000])
def test_the_interval_of_the_accuracy_is_as_wide_as_the_binomial(count: int) -> None:
    probabilities, labels = answers(count)
    accuracy = figures(probabilities, labels, CLASSES, BINS)["accuracy"]
    settings = Evaluation(calibration_bins=BINS, bootstrap_resamples=1000, seed=0)
    resampled = weighted(probabilities, labels, CLASSES, BINS, bootstrap_weights(count, settings))
    low, high = bootstrap_intervals(resampled)["accuracy"]
    assert low < accuracy < high
    assert high - low == pytest.approx(2 * 1.96 * (accuracy * (1 - accuracy) / count) ** 0.5, rel=0.15)
