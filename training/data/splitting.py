"""Split of the cases: training cases, reported cases, and the folds inside the training period."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from training.config import RandomSplit, TimeSplit
from training.data.cases import Cases, Mask
from training.errors import DataError


@dataclass(frozen=True, slots=True)
class Fold:
    """Masks over the training cases: fit on `fit`, validate on `validate`; `latest` folds set the temperature."""

    fit: Mask
    validate: Mask
    latest: bool


def reported(cases: Cases, split: TimeSplit | RandomSplit) -> Mask:
    """Mark the reported cases, which are not trained on.

    Raises:
        DataError: the split leaves one side empty, or needs dates that the cases lack.

    """
    if isinstance(split, TimeSplit):
        if cases.days is None:
            message = "params.yaml: split.method is time, but not every case has a date; use method random"
            raise DataError(message)
        later = cases.days >= np.datetime64(split.date)
    else:
        later = np.zeros(len(cases), dtype=np.bool_)
        try:
            _, chosen = train_test_split(
                np.arange(len(cases)), test_size=split.test_share, stratify=cases.labels, random_state=split.seed
            )
        except ValueError as error:
            message = f"params.yaml: split.test_share: too few cases for it ({error})"
            raise DataError(message) from error
        later[chosen] = True
    if later.all() or not later.any():
        side = "trained" if later.all() else "reported"
        message = f"params.yaml: split.date leaves no case to be {side} on"
        raise DataError(message)
    return later


def check_dates(cases: Cases, half_life: float | None) -> None:
    """Check that every case has a date if older ones weigh less, by `half_life`.

    Raises:
        DataError: one has none.

    """
    if half_life is not None and cases.days is None:
        message = "params.yaml: model.recency_half_life_months needs a date in every case; set it to null"
        raise DataError(message)


def check_enough(training: Cases, classes: Sequence[str], folds: int) -> None:
    """Check that every class has enough training cases for the folds.

    Raises:
        DataError: names the classes, their number of cases and the number needed.

    """
    needed = 2 * folds
    counts = np.bincount(training.labels, minlength=len(classes))
    if few := [f"{code} has {count}" for code, count in zip(classes, counts, strict=True) if count < needed]:
        message = (
            f"too few training cases: {', '.join(few)}; {needed} are needed (2 x choice.folds): "
            "bring more data, use fewer folds, or merge the class with another"
        )
        raise DataError(message)


def folds(training: Cases, split: TimeSplit | RandomSplit, count: int, seed: int) -> list[Fold]:
    """Divide the training cases into `count` folds for validation, by the method of `split`.

    By time: the later half in blocks; each validates a model that was fitted on all cases before it. The last block is
    `latest`: it is nearest to the patients that will be served. At random: stratified folds, all of them `latest`.
    """
    if isinstance(split, TimeSplit) and training.days is not None:
        ordered = np.sort(training.days)
        starts = [ordered[len(ordered) * (count + block) // (2 * count)] for block in range(count)]
        ends = [*starts[1:], ordered[-1] + np.timedelta64(1, "D")]
        parts = [
            Fold(training.days < start, (training.days >= start) & (training.days < end), latest=block == count - 1)
            for block, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]
    else:
        stratified = StratifiedKFold(count, shuffle=True, random_state=seed)
        parts = []
        for _, chosen in stratified.split(training.rows, training.labels):
            validate = np.zeros(len(training), dtype=np.bool_)
            validate[chosen] = True
            parts.append(Fold(~validate, validate, latest=True))
    for fold in parts:
        if not fold.validate.any() or len(np.unique(training.labels[fold.fit])) < 2:  # noqa: PLR2004 - two classes
            message = (
                "too few training cases for choice.folds: some fold has one class, or no case; use fewer folds, or a "
                "later split.date where split.method is time"
            )
            raise DataError(message)
    return parts
