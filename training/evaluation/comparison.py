"""Comparison of two models on the same cases by a paired bootstrap.

Every resample of the cases gives the figures of both models, and so their difference. The 95 % percentile interval of
the difference is narrower than two separate intervals would suggest, since the models mostly fail on the same cases.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from training.config import Evaluation
from training.data.cases import Floats, Labels
from training.evaluation.gates import Verdict
from training.evaluation.metrics import LOWER_IS_BETTER, bootstrap_weights, weighted


def compare(  # noqa: PLR0913, PLR0917 - two models, the cases, and how to compare them
    candidate: Floats,
    production: Floats,
    labels: Labels,
    classes: Sequence[str],
    low_prevalence: Iterable[str],
    settings: Evaluation,
) -> list[Verdict]:
    """Check that no figure of the candidate is worse than that of production; only a difference beyond chance counts.

    Both models are compared by their probabilities (n x classes) for n cases: overall figures, and the average
    precision of each class of low prevalence. Undefined figures, as that of a class without cases, are left out.
    """
    weights = bootstrap_weights(len(labels), settings)
    candidate_figures, production_figures = (
        weighted(probabilities, labels, classes, settings.calibration_bins, weights)
        for probabilities in (candidate, production)
    )
    names = ["accuracy", "balanced_accuracy", "log_loss", *(f"average_precision.{code}" for code in low_prevalence)]
    changes = {name: candidate_figures[name] - production_figures[name] for name in names}
    return [_verdict(name, change) for name, change in changes.items() if np.isfinite(change[0])]


def _verdict(name: str, change: Floats) -> Verdict:
    """Return the verdict on figure `name`, which changed by `change[0]`, and in the resamples by the other values."""
    low, high = (float(end) for end in np.nanpercentile(change[1:], (2.5, 97.5)))
    lower_is_better = name in LOWER_IS_BETTER
    direction = "better" if (high < 0) == lower_is_better else "worse"
    result = "no difference seen" if low <= 0 <= high else direction
    return Verdict(
        gate=f"production.{name}",
        figure=float(change[0]),
        rule="<=" if lower_is_better else ">=",
        bound=0,
        passed=result != "worse",
        interval=(low, high),
        remark=f"{result}, 95 % interval {low:+.4f} to {high:+.4f}",
    )
