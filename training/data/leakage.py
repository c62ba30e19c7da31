"""How well one column alone tells the diagnoses apart: too well, and it was filled in from the diagnosis.

Each column is given to a decision tree of depth 3 that is fitted on the training cases, all classes weighing the same,
and judged by its balanced accuracy (mean recall of the classes) on the reported cases. A column may give away all
classes at once, or one class only; and what gives it away may be that a value is there at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import recall_score
from sklearn.tree import DecisionTreeClassifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from training.data.cases import Cases, Labels

_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Separation:
    """Balanced accuracies of one column (0 to 1): between all classes, and of the class it tells best from the rest."""

    all_classes: float
    one_class: float
    told_best: str


def by_value(training: Cases, later: Cases, columns: Sequence[str], classes: Sequence[str]) -> dict[str, Separation]:
    """Judge the values of each column that is not always the same."""
    return {
        column: _separation(training.rows[:, [index]], training.labels, later.rows[:, [index]], later.labels, classes)
        for index, column in enumerate(columns)
        if _varies(training.rows[:, index])
    }


def by_absence(training: Cases, later: Cases, columns: Sequence[str], classes: Sequence[str]) -> dict[str, Separation]:
    """Judge each column by whether it has a value, for those that sometimes have none."""
    absent, absent_later = np.isnan(training.rows), np.isnan(later.rows)
    return {
        column: _separation(absent[:, [index]], training.labels, absent_later[:, [index]], later.labels, classes)
        for index, column in enumerate(columns)
        if _varies(absent[:, index])
    }


def _varies(values: npt.NDArray[np.generic]) -> bool:
    return len(np.unique(values)) > 1


def _separation(
    known: npt.NDArray[np.generic],
    labels: Labels,
    asked: npt.NDArray[np.generic],
    truth: Labels,
    classes: Sequence[str],
) -> Separation:
    one_by_one = {
        classes[index]: _balanced_accuracy(known, labels == index, asked, truth == index)
        for index in np.intersect1d(labels, truth)  # one that is missing on a side cannot be learned, or not be judged
    }
    best = max(one_by_one, key=lambda code: one_by_one[code])
    return Separation(_balanced_accuracy(known, labels, asked, truth), one_by_one[best], best)


def _balanced_accuracy(
    known: npt.NDArray[np.generic],
    labels: npt.NDArray[np.generic],
    asked: npt.NDArray[np.generic],
    truth: npt.NDArray[np.generic],
) -> float:
    tree = DecisionTreeClassifier(max_depth=_DEPTH, class_weight="balanced", random_state=0).fit(known, labels)
    given = tree.predict(asked)
    recalls = recall_score(truth, given, labels=np.unique(truth), average="macro", zero_division=0)
    return round(float(recalls), 6)
