"""Comparison of two models on the same cases by a paired bootstrap.

Every resample of the cases gives the figures of both models, and so their difference. The 95 % percentile interval of
the difference is narrower than two separate intervals would suggest, since the models mostly fail on the same cases.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.config import Evaluation
from training.data.cases import Floats, Labels
from training.evaluation.metrics import LOWER_IS_BETTER, bootstrap_weights, weighted
from training.stage_files import Interval

Result = Literal["better", "worse", "no difference seen"]

_OVERALL_FIGURES = ("accuracy", "balanced_accuracy", "log_loss")


@dataclass(frozen=True, slots=True)
class Difference:
    """The candidate's `figure` minus that of production, and the interval of this difference."""

    figure: str
    value: float
    interval: Interval
    result: Result


def compared_figures(low_prevalence: Iterable[str]) -> list[str]:
    """Return the names of the compared figures: overall ones, and the average precision of each rare class."""
    return [*_OVERALL_FIGURES, *(f"average_precision.{code}" for code in low_prevalence)]


def differences(  # noqa: PLR0913, PLR0917 - two models, the cases, and how to compare them
    candidate: Floats,
    production: Floats,
    labels: Labels,
    classes: Sequence[str],
    names: Iterable[str],
    settings: Evaluation,
) -> list[Difference]:
    """Compare the probabilities (n x classes) of both models for n cases; undefined figures are left out.

    An undefined figure is, for example, the average precision of a class without cases.
    """
    weights = np.concatenate([np.ones((1, len(labels))), bootstrap_weights(len(labels), settings)])
    candidate_figures, production_figures = (
        weighted(probabilities, labels, classes, settings.calibration_bins, weights)
        for probabilities in (candidate, production)
    )
    compared = []
    for name in names:
        change = candidate_figures[name] - production_figures[name]
        if not np.isfinite(change[0]):
            continue
        low, high = (float(end) for end in np.nanpercentile(change[1:], (2.5, 97.5)))
        result = _result(low, high, name in LOWER_IS_BETTER)
        compared.append(Difference(name, float(change[0]), (low, high), result))
    return compared


def _result(low: float, high: float, lower_is_better: bool) -> Result:  # noqa: FBT001 - a property of the figure
    if low <= 0 <= high:
        return "no difference seen"
    return "better" if (high < 0) == lower_is_better else "worse"
