"""Everything that is said of a model's answers on the cases that were kept from training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.evaluation.metrics import calibration_curve, confusion_matrix, plain, resamples, spans, weighted
from training.evaluation.subgroups import subgroups
from training.model import conformal
from training.stage_files import CalibrationBin, Metrics, Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.config import Evaluation, Parameters
    from training.data.cases import Cases, Floats, Labels, Mask
    from training.stage_files import Interval, Preparation

_OF_A_RULE = ("accuracy", "balanced_accuracy", "recall.", "precision.")
"""What can be said of answers without probabilities."""


def report(  # noqa: PLR0913 - each is what another stage, or a person, has made
    probabilities: Floats,
    cases: Cases,
    preparation: Preparation,
    plausible_at: float,
    parameters: Parameters,
    *,
    by_rule: Labels | None = None,
) -> Metrics:
    """Compute it from the n x classes `probabilities` that the model gave `cases`, of which a rule says `by_rule`."""
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
        rule=None if by_rule is None else _rule(probabilities, by_rule, labels, classes, settings),
    )


def _rule(probabilities: Floats, by_rule: Labels, labels: Labels, classes: Sequence[str], settings: Evaluation) -> Rule:
    def under(weights: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
        certain = np.eye(len(classes))[by_rule]
        theirs = weighted(certain, labels, classes, settings.calibration_bins, weights)
        ours = weighted(probabilities, labels, classes, settings.calibration_bins, weights)
        kept = [name for name in theirs if name.startswith(_OF_A_RULE)]
        return {name: theirs[name] for name in kept}, {name: ours[name] - theirs[name] for name in kept}

    found, gain = under(np.ones((1, len(labels))))
    resampled, resampled_gain = under(resamples(len(labels), settings))
    return Rule(
        answers=[classes[index] for index in np.unique(by_rule)],
        figures=plain(found),
        intervals=spans(resampled),
        gain=plain(gain),
        gain_intervals=spans(resampled_gain),
    )


def _confusion(counts: list[list[int]], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    return {code: dict(zip(classes, row, strict=True)) for code, row in zip(classes, counts, strict=True)}
