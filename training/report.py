"""Everything that is said of a model's answers on the cases that were kept from training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training import conformal
from training.measures import calibration_curve, confusion_matrix, plain, resamples, spans, weighted
from training.results import CalibrationBin, Metrics
from training.subgroups import subgroups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.cases import Cases, Floats, Mask, Preparation
    from training.parameters import Parameters
    from training.results import Interval


def report(
    probabilities: Floats, cases: Cases, preparation: Preparation, plausible_at: float, parameters: Parameters
) -> Metrics:
    """Compute it from the n x classes `probabilities` that the model gave `cases`."""
    labels, classes, settings = cases.labels, preparation.classes, parameters.evaluation

    def measure(chosen: Mask) -> tuple[dict[str, float], dict[str, Interval]]:
        answers, truth = probabilities[chosen], labels[chosen]

        def under(weights: Floats) -> dict[str, Floats]:
            return {
                **weighted(answers, truth, classes, settings.calibration_bins, weights),
                **conformal.weighted(answers, truth, classes, plausible_at, weights),
            }

        return plain(under(np.ones((1, len(truth))))), spans(under(resamples(len(truth), settings)))

    found, intervals = measure(np.ones(len(cases), dtype=np.bool_))
    return Metrics(
        cases=len(cases),
        figures=found,
        intervals=intervals,
        confusion=_confusion(confusion_matrix(probabilities, labels, len(classes)).tolist(), classes),
        calibration=[
            CalibrationBin(confidence=round(mean, 6), right=round(share, 6), cases=size)
            for mean, share, size in zip(
                *(values.tolist() for values in calibration_curve(probabilities, labels, settings.calibration_bins)),
                strict=True,
            )
        ],
        subgroups=subgroups(cases, classes, preparation.features, parameters.subgroups, measure),
    )


def _confusion(counts: list[list[int]], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    return {code: dict(zip(classes, row, strict=True)) for code, row in zip(classes, counts, strict=True)}
