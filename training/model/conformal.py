"""Conformal prediction: the plausible classes of a patient, with the least ambiguous sets (LAC), cross-validated.

A class is plausible if its probability reaches a threshold. The threshold is set on out-of-fold answers, so that for
the model of that fold and similar cases the plausible classes include the true one with probability `level` or more
(Sadinle, Lei and Wasserman 2019, Least Ambiguous Set-Valued Classifiers with Bounded Error Levels, JASA 114:525).
The likeliest class is always plausible. The served model is fitted again on all training cases; the guarantee does not
transfer to it, nor to single classes or a later time, so these figures are measured on the reported cases:
`coverage` (share of cases whose true class is plausible) and `coverage.C`, `set_size` (mean number of plausible
classes), `conclusive` (share with exactly one) and `conclusive_accuracy` (share of those that is right).
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from training.data.cases import Floats, Labels, Mask


def threshold(probabilities: Floats, labels: Labels, level: float) -> float:
    """Return the least probability of a plausible class, from n x classes out-of-fold probabilities and n true classes.

    Of the scores 1 - p(true class), the one of rank ceil((n + 1) level) bounds what is plausible; with too few cases
    for the level there is no such rank, and every class is plausible: 0.
    """
    own = np.sort(probabilities[np.arange(len(labels)), labels])[::-1]
    rank = math.ceil((len(own) + 1) * Fraction(str(level)))  # exact: 100 x 0.55 is 55.00000000000001 in floats
    return math.floor(float(own[rank - 1]) * 1e6) / 1e6 if rank <= len(own) else 0.0


def plausible(probabilities: Floats, plausible_at: float) -> Mask:
    """Mark the plausible classes of each case: n x classes."""
    sets: Mask = probabilities >= plausible_at
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets


def weighted(
    probabilities: Floats, labels: Labels, classes: Sequence[str], plausible_at: float, weights: Floats
) -> dict[str, Floats]:
    """Compute the figures above under each row of `weights` (R x n); return arrays of R."""
    sets = plausible(probabilities, plausible_at)
    covered, size = sets[np.arange(len(labels)), labels], sets.sum(axis=1)
    single, total = size == 1, weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {
            "coverage": weights @ covered / total,
            "set_size": weights @ size / total,
            "conclusive": weights @ single / total,
            "conclusive_accuracy": weights @ (single & covered) / (weights @ single),
        }
        for index, code in enumerate(classes):
            of_class = labels == index
            values[f"coverage.{code}"] = weights @ (of_class & covered) / (weights @ of_class)
    return values
