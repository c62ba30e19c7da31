import numpy as np
import pytest

from tests.support.training_cases import CLASSES, made_up_cases, small_parameters
from training.config import RandomSplit, TimeSplit
from training.data.splitting import check_enough, folds, reported
from training.errors import DataError

RANDOM = RandomSplit(method="random", test_share=0.25, seed=3)


def by_time(date: str) -> TimeSplit:
    return TimeSplit.model_validate({"method": "time", "date": date})


def test_no_case_of_the_reported_period_is_trained_on() -> None:
    cases = made_up_cases()
    later = reported(cases, by_time("2020-10-01"))
    assert cases.days is not None
    assert cases.days[~later].max() == np.datetime64("2020-09-30")
    assert cases.days[later].min() == np.datetime64("2020-10-01")


def test_no_fold_is_fitted_on_what_came_after_or_on_the_days_it_validates() -> None:
    cases = made_up_cases()
    assert cases.days is not None
    cases = type(cases)(cases.rows, cases.labels, cases.days - cases.days.astype(int) % 5)  # several cases a day
    assert cases.days is not None
    parts = folds(cases, by_time("2021-01-01"), 3, seed=0)
    for fold in parts:
        assert cases.days[fold.fit].max() < cases.days[fold.validate].min()
    validated = np.sum([fold.validate for fold in parts], axis=0)
    assert validated.max() == 1
    assert validated.sum() == pytest.approx(len(cases) / 2, abs=10)
    assert [fold.latest for fold in parts] == [False, False, True]
    assert cases.days[parts[-1].validate].max() == cases.days.max()


def test_a_random_split_keeps_each_class_share_and_repeats_itself() -> None:
    cases = made_up_cases(dated=False)
    later = reported(cases, RANDOM)
    assert later.sum() == 100
    assert np.bincount(cases.labels[later]) == pytest.approx(np.bincount(cases.labels) / 4, abs=1)
    assert (later == reported(cases, RANDOM)).all()


def test_a_class_with_one_case_cannot_be_split_at_random() -> None:
    cases = made_up_cases()
    single = cases.where((cases.labels != 2) | (np.arange(400) == np.flatnonzero(cases.labels == 2)[0]))
    with pytest.raises(DataError, match=r"^params\.yaml: split\.test_share: too few cases for it \(.*only 1"):
        reported(single, RANDOM)


def test_random_folds_validate_every_case_once_and_all_set_the_temperature() -> None:
    parts = folds(made_up_cases(dated=False), RANDOM, 4, seed=0)
    assert (np.sum([fold.validate for fold in parts], axis=0) == 1).all()
    assert all(fold.latest for fold in parts)


@pytest.mark.parametrize(("date", "side"), [("2019-01-01", "trained"), ("2030-01-01", "reported")])
def test_a_date_that_leaves_one_side_empty_is_rejected(date: str, side: str) -> None:
    with pytest.raises(DataError, match=f"no case to be {side} on"):
        reported(made_up_cases(), by_time(date))


def test_a_split_by_time_needs_dates() -> None:
    with pytest.raises(DataError, match="use method random"):
        reported(made_up_cases(dated=False), by_time("2020-10-01"))


def test_a_class_with_too_few_cases_is_named_with_how_many_it_needs() -> None:
    cases = made_up_cases(40)
    few = cases.where((cases.labels != 2) | (np.arange(40) == np.flatnonzero(cases.labels == 2)[0]))
    with pytest.raises(DataError, match=r"grave has 1; 6 are needed"):
        check_enough(few, CLASSES, 3)
    check_enough(cases, CLASSES, small_parameters().choice.folds)


def test_a_fold_with_one_class_only_is_rejected() -> None:
    cases = made_up_cases(100)
    labels = np.repeat([0, 1], 50)  # one class only in the first half of the period
    with pytest.raises(DataError, match="too few training cases for choice"):
        folds(type(cases)(cases.rows, labels, cases.days), by_time("2021-01-01"), 2, seed=0)
