import numpy as np
import pytest

from tests.support.training_cases import CLASSES, made_up_cases, small_parameters
from training.commands.train import train
from training.data.cases import Floats, Labels
from training.evaluation.metrics import point_estimates
from training.model.conformal import plausible, threshold, weighted


def of_true_class(values: list[float]) -> tuple[Floats, Labels]:
    """Return cases of class 0 with these probabilities of it."""
    own = np.array(values)
    return np.stack([own, 1 - own], axis=1), np.zeros(len(own), dtype=np.int64)


def test_the_threshold_is_the_value_of_rank_n_plus_1_times_the_level() -> None:
    probabilities, labels = of_true_class([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert threshold(probabilities, labels, 0.8) == pytest.approx(0.2)  # the 8th of 9 from above
    assert threshold(probabilities, labels, 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize("percent", range(50, 100))
def test_the_rank_is_exact_where_floats_are_one_too_high(percent: int) -> None:
    values = np.arange(400, 0, -1) / 1000  # of n cases, the one of rank k from above has (401 - k) / 1000
    for count in (19, 99, 199, 299, 399):
        rank = -(-(count + 1) * percent // 100)
        probabilities, labels = of_true_class(values[:count].tolist())
        expected = (401 - rank) / 1000 if rank <= count else 0
        assert threshold(probabilities, labels, percent / 100) == pytest.approx(expected, abs=2e-6)


def test_with_too_few_cases_for_the_level_every_class_is_plausible() -> None:
    probabilities, labels = of_true_class([0.9] * 9)
    assert threshold(probabilities, labels, 0.9) == pytest.approx(0.9)
    assert threshold(probabilities, labels, 0.95) == 0


def test_the_true_class_is_plausible_at_the_chosen_level() -> None:
    rng = np.random.default_rng(0)
    coverage = []
    for _ in range(400):
        probabilities = rng.dirichlet([0.6, 0.4, 0.2], 120)
        labels = (rng.random(120)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)
        sets = plausible(probabilities[60:], threshold(probabilities[:60], labels[:60], 0.9))
        coverage.append(sets[np.arange(60), labels[60:]].mean())
    assert np.mean(coverage) == pytest.approx(0.9 + 0.5 / 61, abs=0.012)  # between the level and 1 / (n + 1) above it


def test_the_likeliest_class_is_plausible_whatever_the_threshold() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    assert plausible(probabilities, 0.9).tolist() == [[True, False, False], [False, False, True]]
    assert plausible(probabilities, 0.2).tolist() == [[True, True, True], [True, True, True]]


def test_coverage_size_and_conclusive_answers_are_counted() -> None:
    probabilities = np.array([[0.9, 0.05, 0.05], [0.9, 0.05, 0.05], [0.5, 0.4, 0.1], [0.1, 0.45, 0.45]])
    labels = np.array([0, 1, 1, 0])
    sets = point_estimates(weighted(probabilities, labels, CLASSES, 0.3, np.ones((1, 4))))
    assert sets == {
        "coverage": 0.5,
        "coverage.sano": 0.5,
        "coverage.enfermo": 0.5,  # none is "grave"
        "set_size": 1.5,
        "conclusive": 0.5,
        "conclusive_accuracy": 0.5,
    }


def test_a_higher_level_makes_more_classes_plausible() -> None:
    cases, parameters = made_up_cases(), small_parameters()
    _, _, chosen = train(cases, CLASSES, parameters)
    stricter = parameters.model_copy(update={"conformal": parameters.conformal.model_copy(update={"level": 0.97})})
    assert 0 < train(cases, CLASSES, stricter)[2].plausible_at < chosen.plausible_at < 1
