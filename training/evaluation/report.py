"""Evaluation report: all figures of a model on the reported cases.

A figure of fewer cases than `subgroups.least_cases` gets no interval: the resamples of two cases, both right, are all
right, and their interval of 1 to 1 would claim certainty.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sklearn.metrics import confusion_matrix

from training.config import Parameters
from training.data.cases import Cases, Floats, Labels, Mask
from training.evaluation.metrics import (
    bootstrap_intervals,
    bootstrap_weights,
    calibration_curve,
    point_estimates,
    weighted,
)
from training.evaluation.subgroups import subgroups
from training.model import conformal
from training.stage_files import CalibrationBin, Confusion, Interval, Metrics, Preparation, Rule, cases_of

_RULE_FIGURES = ("accuracy", "balanced_accuracy", "recall.", "precision.")
"""Figures that need no probabilities; a rule has none."""


def report(  # noqa: PLR0913 - each comes from another stage or file
    probabilities: Floats,
    cases: Cases,
    preparation: Preparation,
    plausible_at: float,
    parameters: Parameters,
    *,
    by_rule: Labels | None = None,
) -> Metrics:
    """Compute the metrics of n x classes `probabilities` for n `cases`; `by_rule` has the rule's answers as indices."""
    labels, classes, settings = cases.labels, preparation.classes, parameters.evaluation

    def estimate(chosen: Mask) -> tuple[dict[str, float], dict[str, Interval]]:
        answers, truth = probabilities[chosen], labels[chosen]
        weights = bootstrap_weights(len(truth), settings)
        values = weighted(answers, truth, classes, settings.calibration_bins, weights)
        values |= conformal.weighted(answers, truth, classes, plausible_at, weights)
        return point_estimates(values), bootstrap_intervals(values)

    overall, intervals = estimate(np.ones(len(cases), dtype=np.bool_))
    least = parameters.subgroups.least_cases
    metrics = Metrics(
        cases=len(cases),
        figures=overall,
        intervals=intervals,
        confusion=_confusion(probabilities, labels, classes),
        calibration=[
            CalibrationBin(confidence=round(mean, 6), right=round(share, 6), cases=size)
            for mean, share, size in zip(
                *(values.tolist() for values in calibration_curve(probabilities, labels, settings.calibration_bins)),
                strict=True,
            )
        ],
        subgroups=subgroups(cases, classes, preparation.features, parameters.subgroups, estimate),
        rule=None if by_rule is None else _rule(probabilities, by_rule, labels, classes, parameters),
    )
    return metrics.model_copy(update={"intervals": _of_enough(intervals, metrics.cases_of, least)})


def _of_enough(intervals: Mapping[str, Interval], count: Callable[[str], int], least: int) -> dict[str, Interval]:
    """Return the intervals of the figures of `least` cases or more."""
    return {name: interval for name, interval in intervals.items() if count(name) >= least}


def _rule(
    probabilities: Floats, by_rule: Labels, labels: Labels, classes: Sequence[str], parameters: Parameters
) -> Rule:
    settings, least = parameters.evaluation, parameters.subgroups.least_cases
    weights, certain = bootstrap_weights(len(labels), settings), np.eye(len(classes))[by_rule]
    model = weighted(probabilities, labels, classes, settings.calibration_bins, weights)
    every = weighted(certain, labels, classes, settings.calibration_bins, weights)
    values = {name: figure for name, figure in every.items() if name.startswith(_RULE_FIGURES)}
    gain = {name: model[name] - figure for name, figure in values.items()}
    ours, theirs = _confusion(probabilities, labels, classes), _confusion(certain, labels, classes)
    return Rule(
        answers=[classes[index] for index in np.unique(by_rule)],
        figures=point_estimates(values),
        intervals=_of_enough(bootstrap_intervals(values), lambda name: cases_of(name, theirs), least),
        gain=point_estimates(gain),
        gain_intervals=_of_enough(
            bootstrap_intervals(gain), lambda name: min(cases_of(name, ours), cases_of(name, theirs)), least
        ),
    )


def _confusion(probabilities: Floats, labels: Labels, classes: Sequence[str]) -> Confusion:
    counts = confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(len(classes))).tolist()
    return {code: dict(zip(classes, row, strict=True)) for code, row in zip(classes, counts, strict=True)}
