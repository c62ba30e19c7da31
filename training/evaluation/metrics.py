"""How good probabilities are, with bootstrap confidence intervals, all from one vectorised computation.

Every figure is computed under R sets of case weights at once: all ones gives the figure itself, multinomial counts
give its bootstrap distribution. Names: `accuracy`, `balanced_accuracy` (mean recall of the classes that occur),
`log_loss` (nats), `brier` (summed over classes, 0 to 2), `expected_calibration_error` (top label, equal-width bins;
Naeini et al. 2015), `overconfidence` (mean probability of the top label less accuracy), and per class `recall.C`,
`precision.C`, `f1.C`, `average_precision.C`, `roc_auc.C`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training.config import Evaluation
    from training.data.cases import Floats, Labels, Mask
    from training.stage_files import Interval

LOWER_IS_BETTER = {"log_loss", "expected_calibration_error"}
"""Figures of a comparison that get better as they fall."""
_LEAST = 1e-15
_INTERVAL = (2.5, 97.5)


def figures(probabilities: Floats, labels: Labels, classes: Sequence[str], bins: int) -> dict[str, float]:
    """Compute every figure; those without meaning here (a class that does not occur) are left out."""
    return plain(weighted(probabilities, labels, classes, bins, np.ones((1, len(labels)))))


def resamples(cases: int, settings: Evaluation) -> Floats:
    """Draw how often each of `cases` comes in every bootstrap resample: resamples x cases."""
    generator = np.random.default_rng(settings.seed)
    drawn = generator.multinomial(cases, np.full(cases, 1 / cases), size=settings.bootstrap_resamples)
    return drawn.astype(np.float64)


def plain(found: Mapping[str, Floats]) -> dict[str, float]:
    """Give each figure under the first set of weights, less those that have no meaning there."""
    return {name: round(float(values[0]), 6) for name, values in found.items() if np.isfinite(values[0])}


def spans(found: Mapping[str, Floats]) -> dict[str, Interval]:
    """Give the 95 % percentile interval of each figure over its resamples."""
    ends = {name: np.nanpercentile(v, _INTERVAL) for name, v in found.items() if np.isfinite(v).any()}
    return {name: (round(float(low), 6), round(float(high), 6)) for name, (low, high) in ends.items()}


def weighted(
    probabilities: Floats, labels: Labels, classes: Sequence[str], bins: int, weights: Floats
) -> dict[str, Floats]:
    """Compute every figure under each row of `weights` (R x n); returns arrays of R, NaN where it has no meaning."""
    count = len(classes)
    predicted = probabilities.argmax(axis=1)
    pairs = np.eye(count * count)[labels * count + predicted]
    confusion = (weights @ pairs).reshape(-1, count, count)  # R x true x predicted
    total, hits = weights.sum(axis=1), np.einsum("rcc->rc", confusion)
    own = np.maximum(probabilities[np.arange(len(labels)), labels], _LEAST)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / confusion.sum(axis=2)
        precision = hits / confusion.sum(axis=1)
        f1 = 2 * hits / (confusion.sum(axis=1) + confusion.sum(axis=2))
        found = {
            "accuracy": hits.sum(axis=1) / total,
            "balanced_accuracy": np.nansum(recall, axis=1) / np.isfinite(recall).sum(axis=1),
            "log_loss": weights @ -np.log(own) / total,
            "brier": weights @ ((probabilities - np.eye(count)[labels]) ** 2).sum(axis=1) / total,
            "overconfidence": weights @ (probabilities.max(axis=1) - (predicted == labels)) / total,
            "expected_calibration_error": _calibration_error(probabilities, predicted == labels, bins, weights) / total,
        }
        for index, code in enumerate(classes):
            average_precision, roc_auc = _ranking(probabilities[:, index], labels == index, weights)
            found |= {
                f"recall.{code}": recall[:, index],
                f"precision.{code}": precision[:, index],
                f"f1.{code}": f1[:, index],
                f"average_precision.{code}": average_precision,
                f"roc_auc.{code}": roc_auc,
            }
    return found


def confusion_matrix(probabilities: Floats, labels: Labels, count: int) -> Labels:
    """Count cases by true (rows) and predicted (columns) class."""
    pairs = labels * count + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def calibration_curve(probabilities: Floats, labels: Labels, bins: int) -> tuple[Floats, Floats, Labels]:
    """Per bin that has cases: mean confidence of the top label, share that is right, and how many."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    where = _bin(confidence, bins)
    size = np.bincount(where, minlength=bins)
    used = size > 0
    mean = np.bincount(where, confidence, bins)[used] / size[used]
    share = np.bincount(where, right, bins)[used] / size[used]
    return mean, share, size[used]


def _calibration_error(probabilities: Floats, right: Mask, bins: int, weights: Floats) -> Floats:
    confidence = probabilities.max(axis=1)
    gaps = (confidence - right)[:, None] * np.eye(bins)[_bin(confidence, bins)]
    error: Floats = np.abs(weights @ gaps).sum(axis=1)
    return error


def _bin(confidence: Floats, bins: int) -> Labels:
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def _ranking(scores: Floats, positive: Mask, weights: Floats) -> tuple[Floats, Floats]:
    """Average precision (sum of precision times the step in recall) and the area under the ROC curve, ties as one."""
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    sorted_weights = weights[:, order]
    found = np.cumsum(sorted_weights * positive[order], axis=1)[:, last_of_tie]
    false = np.cumsum(sorted_weights * ~positive[order], axis=1)[:, last_of_tie]
    recall_step = np.diff(found, axis=1, prepend=0) / found[:, -1:]
    precision = np.where(found + false > 0, found / (found + false), 0)
    true_rate = np.concatenate([np.zeros((len(weights), 1)), found], axis=1) / found[:, -1:]
    heights = (true_rate[:, 1:] + true_rate[:, :-1]) / 2
    area = (heights * np.diff(false, axis=1, prepend=0)).sum(axis=1) / false[:, -1]
    return (recall_step * precision).sum(axis=1), area
