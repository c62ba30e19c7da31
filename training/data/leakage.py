"""Leakage: how well one column alone predicts the diagnosis. A very good one was filled in from the diagnosis.

For each column, a decision tree of depth 3 is fitted on the training cases with balanced class weights. Its figure is
the balanced accuracy (mean recall of the classes) on the reported cases. A column may leak all classes or one class,
by its values or by the presence of a value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import recall_score
from sklearn.tree import DecisionTreeClassifier

from training.data.cases import Cases, Labels, Mask, Rows

_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Separation:
    """Balanced accuracies of one column (0 to 1): all classes, and `best_class` against the rest."""

    all_classes: float
    one_class: float
    best_class: str


def by_value(training: Cases, later: Cases, columns: Sequence[str], classes: Sequence[str]) -> dict[str, Separation]:
    """Measure each column that has more than one value, by its values."""
    return {
        column: _separation(training.rows[:, [index]], training.labels, later.rows[:, [index]], later.labels, classes)
        for index, column in enumerate(columns)
        if len(np.unique(training.rows[:, index])) > 1
    }


def by_absence(training: Cases, later: Cases, columns: Sequence[str], classes: Sequence[str]) -> dict[str, Separation]:
    """Measure each column that is missing in some cases, by the presence of a value."""
    absent, absent_later = (replace(side, rows=np.isnan(side.rows).astype(np.float32)) for side in (training, later))
    return by_value(absent, absent_later, columns, classes)


def _separation(fitted: Rows, labels: Labels, tested: Rows, truth: Labels, classes: Sequence[str]) -> Separation:
    by_class = {
        classes[index]: _balanced_accuracy(fitted, labels == index, tested, truth == index)
        for index in np.intersect1d(labels, truth)  # a class must have cases on both sides
    }
    best = max(by_class, key=lambda code: by_class[code])
    return Separation(_balanced_accuracy(fitted, labels, tested, truth), by_class[best], best)


def _balanced_accuracy(fitted: Rows, labels: Labels | Mask, tested: Rows, truth: Labels | Mask) -> float:
    tree = DecisionTreeClassifier(max_depth=_DEPTH, class_weight="balanced", random_state=0).fit(fitted, labels)
    predicted = tree.predict(tested)
    recalls = recall_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)
    return round(float(recalls), 6)
