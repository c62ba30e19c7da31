"""Which cases train, which are reported on, and how the choice inside the training period is validated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from training.config import TimeSplit
from training.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.config import RandomSplit
    from training.data.cases import Cases, Mask


@dataclass(frozen=True, slots=True)
class Fold:
    """Masks over the training cases: fit on `fit`, validate on `validate`; `latest` folds set the temperature."""

    fit: Mask
    validate: Mask
    latest: bool


def reported(cases: Cases, split: TimeSplit | RandomSplit) -> Mask:
    """Mark the cases that are kept from training and reported on.

    Raises:
        DataError: the split leaves one side empty, or needs dates that are not there.

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


def check_enough(training: Cases, classes: Sequence[str], folds: int) -> None:
    """Refuse to learn a class from hardly any example.

    Raises:
        DataError: naming the classes, how many cases they have and how many they need.

    """
    needed = 2 * folds
    counts = np.bincount(training.labels, minlength=len(classes))
    if few := [f"{code} has {count}" for code, count in zip(classes, counts, strict=True) if count < needed]:
        message = (
            f"too few cases in the training period: {', '.join(few)}; {needed} are needed (2 x choice.folds): "
            "bring more data, use fewer folds, or merge the class with another"
        )
        raise DataError(message)


def folds(training: Cases, split: TimeSplit | RandomSplit, count: int, seed: int) -> list[Fold]:
    """Divide the training cases for validation, in the way they are divided for the report.

    By time: the later half in `count` blocks, each validated by what was fitted on everything before it; the block
    nearest to what will be served is `latest`. At random: stratified folds, all of them `latest`.
    """
    if isinstance(split, TimeSplit) and training.days is not None:
        ordered = np.sort(training.days)
        starts = [ordered[len(ordered) * (count + block) // (2 * count)] for block in range(count)]
        ends = [*starts[1:], ordered[-1] + np.timedelta64(1, "D")]
        found = [
            Fold(training.days < start, (training.days >= start) & (training.days < end), latest=block == count - 1)
            for block, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]
    else:
        stratified = StratifiedKFold(count, shuffle=True, random_state=seed)
        found = []
        for _, chosen in stratified.split(training.rows, training.labels):
            validate = np.zeros(len(training), dtype=np.bool_)
            validate[chosen] = True
            found.append(Fold(~validate, validate, latest=True))
    for fold in found:
        if not fold.validate.any() or len(np.unique(training.labels[fold.fit])) < 2:  # noqa: PLR2004 - two classes
            message = (
                "the training period is too short for choice.folds: some fold has one class, or no case; "
                "use fewer folds, a later split.date or method random"
            )
            raise DataError(message)
    return found
