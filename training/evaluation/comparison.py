"""A candidate against the model in production, on the same cases: what differs by more than chance.

Paired bootstrap: every resample of the cases gives both models' figures, and so their difference; its 95 % percentile
interval is narrower than two intervals side by side, since what is hard for one model is mostly hard for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from training.evaluation.metrics import LOWER_IS_BETTER, resamples, weighted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from training.config import Evaluation
    from training.data.cases import Floats, Labels
    from training.stage_files import Interval

Outcome = Literal["better", "worse", "no difference seen"]

_ALWAYS = ("accuracy", "balanced_accuracy", "log_loss")


@dataclass(frozen=True, slots=True)
class Difference:
    """What the candidate has more of `figure` than production (None: the cases cannot say), and its interval."""

    figure: str
    value: float
    interval: Interval
    outcome: Outcome


def compared_figures(low_prevalence: Iterable[str]) -> list[str]:
    """Name what is compared: the overall figures, and how well each rare class is found."""
    return [*_ALWAYS, *(f"average_precision.{code}" for code in low_prevalence)]


def differences(  # noqa: PLR0913, PLR0917 - two models on the same cases, and how to compare them
    candidate: Floats,
    production: Floats,
    labels: Labels,
    classes: Sequence[str],
    names: Iterable[str],
    settings: Evaluation,
) -> list[Difference]:
    """Compare the probabilities (n x classes) of both for the same cases; a figure without meaning is left out."""
    drawn = np.concatenate([np.ones((1, len(labels))), resamples(len(labels), settings)])
    ours, theirs = (
        weighted(probabilities, labels, classes, settings.calibration_bins, drawn)
        for probabilities in (candidate, production)
    )
    found = []
    for name in names:
        change = ours[name] - theirs[name]
        if not np.isfinite(change[0]):
            continue
        low, high = (float(end) for end in np.nanpercentile(change[1:], (2.5, 97.5)))
        found.append(Difference(name, float(change[0]), (low, high), _outcome(low, high, name in LOWER_IS_BETTER)))
    return found


def _outcome(low: float, high: float, lower_is_better: bool) -> Outcome:  # noqa: FBT001 - one more sign to mind
    if low <= 0 <= high:
        return "no difference seen"
    return "better" if (high < 0) == lower_is_better else "worse"
