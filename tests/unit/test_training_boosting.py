import pickle

import numpy as np
import pytest
from scipy.special import softmax

from tests.support.training_cases import CLASSES, made_up_cases, small_parameters
from training.commands.train import train
from training.data.cases import Cases
from training.errors import DataError
from training.model import boosting


@pytest.mark.parametrize("classes", [2, 3])
def test_the_merged_model_is_the_average_of_its_members(classes: int) -> None:
    cases = made_up_cases(classes=classes)
    members = boosting.fit(cases, 0.5, small_parameters().model)
    expected = softmax(boosting.log_scores(members, cases.rows, classes) / 1.7, axis=1)
    merged = boosting.merge(members, 1.7)
    assert boosting.predict(merged, cases.rows) == pytest.approx(expected, abs=1e-7)  # as float32
    assert merged.n_iter_ == sum(member.n_iter_ for member in members)


def test_lowered_thresholds_split_float32_values_the_same_way() -> None:
    cases = made_up_cases()
    members = boosting.fit(cases, 0.0, small_parameters().model.model_copy(update={"members": 1}))
    merged = boosting.merge(members, 1.0)
    rows = np.repeat(cases.rows[:1], 3 * 200, axis=0)
    for place, (column, value) in enumerate(boosting.thresholds(merged)[:200]):
        around = np.nextafter(value, np.float32(-np.inf)), value, np.nextafter(value, np.float32(np.inf))
        rows[3 * place : 3 * place + 3, column] = around
    assert boosting.predict(merged, rows) == pytest.approx(boosting.predict(members[0], rows), abs=1e-7)  # as float32


def test_every_number_of_the_merged_model_is_a_float32() -> None:
    merged = boosting.merge(boosting.fit(made_up_cases(), 0.5, small_parameters().model), 1.7)
    nodes = np.concatenate([tree.nodes for trees in merged._predictors for tree in trees])  # noqa: SLF001 - as in merge
    baseline = merged._baseline_prediction  # noqa: SLF001 - as in merge
    for numbers in (baseline, nodes["value"], nodes["gain"], nodes["num_threshold"]):
        assert (numbers.astype(np.float32) == numbers).all()


def test_neighbours_in_float32_stay_apart() -> None:
    odd = np.nextafter(np.float32(1), np.float32(2))
    even = np.nextafter(odd, np.float32(2))  # the middle of the two rounds to this one, above the threshold
    labels = np.tile(np.array([0, 1]), 100)
    cases = Cases(np.array([odd, even])[labels][:, None], labels, None)
    parameters = small_parameters(split="random").model.model_copy(update={"members": 1})
    merged = boosting.merge(boosting.fit(cases, 0.0, parameters), 1.0)
    assert [value for _, value in boosting.thresholds(merged)] == [odd]
    assert (boosting.predict(merged, cases.rows).argmax(axis=1) == labels).all()


def test_training_twice_gives_the_same_bytes() -> None:
    cases, parameters = made_up_cases(), small_parameters()
    first, second = (pickle.dumps(train(cases, CLASSES, parameters)[0]) for _ in range(2))
    assert first == second


def test_the_model_unpickles_with_scikit_learn_alone() -> None:
    model, _, _ = train(made_up_cases(), CLASSES, small_parameters())
    assert type(model).__module__.startswith("sklearn.")
    assert b"training" not in pickle.dumps(model)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_weights_lift_rare_classes_by_the_power_and_average_one(power: float) -> None:
    labels = np.array([0] * 80 + [1] * 20)
    weights = boosting.case_weights(labels, None, power, None)
    assert weights.mean() == pytest.approx(1)
    assert weights[-1] / weights[0] == pytest.approx(4**power)


def test_a_case_weighs_half_as_much_a_half_life_earlier() -> None:
    days = np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]")
    weights = boosting.case_weights(np.array([0, 0]), days, 0.0, 12)
    assert weights[0] / weights[1] == pytest.approx(0.5, abs=0.01)


def test_the_temperature_undoes_a_known_overconfidence() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(4000, 3)) * 2
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)  # drawn from softmax(honest)
    assert boosting.best_temperature(honest * 1.5, labels) == pytest.approx(1.5, rel=0.1)


def test_a_class_that_a_fold_lacks_gets_hardly_any_probability() -> None:
    cases = made_up_cases()
    members = boosting.fit(cases.where(cases.labels != 1), 0.0, small_parameters().model)
    probabilities = softmax(boosting.log_scores(members, cases.rows, 3), axis=1)
    assert probabilities.shape == (len(cases), 3)
    assert probabilities[:, 1].max() < 1e-4


@pytest.mark.parametrize("split", ["time", "random"])
def test_the_candidate_that_validates_best_is_chosen(split: str) -> None:
    cases = made_up_cases(dated=split == "time")
    _, candidates, chosen = train(cases, CLASSES, small_parameters(split=split))
    assert [candidate.class_weight_power for candidate in candidates] == [0.0, 0.5]
    assert chosen.score == max(candidate.score for candidate in candidates)


def test_weighing_by_age_needs_dates() -> None:
    parameters = small_parameters(split="random")
    aged = parameters.model_copy(
        update={"model": parameters.model.model_copy(update={"recency_half_life_months": 6.0})}
    )
    with pytest.raises(DataError, match="recency_half_life_months"):
        train(made_up_cases(dated=False), CLASSES, aged)
