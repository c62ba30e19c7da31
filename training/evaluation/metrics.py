"""Metrics of predicted probabilities with bootstrap confidence intervals, in one vectorised computation.

Every figure is computed under R sets of case weights at once: the first, weights of one, gives the figure itself, and
the others, multinomial counts, give its bootstrap distribution. Names: `accuracy`, `balanced_accuracy` (mean recall of
the classes that occur), `log_loss` (nats), `brier` (summed over classes, 0 to 2), `expected_calibration_error` (top
label, equal-width bins; Naeini et al. 2015), `overconfidence` (mean probability of the top label less accuracy), and
per class `recall.C`, `precision.C`, `f1.C`, `average_precision.C`, `roc_auc.C`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from training.config import Evaluation
from training.data.cases import Floats, Labels, Mask
from training.stage_files import Interval

LOWER_IS_BETTER = {"log_loss", "expected_calibration_error"}
"""Figures of a comparison that get better as they fall."""
_LEAST = 1e-15
_INTERVAL = (2.5, 97.5)


def figures(probabilities: Floats, labels: Labels, classes: Sequence[str], bins: int) -> dict[str, float]:
    """Compute every figure; undefined ones (of a class without cases) are left out."""
    return point_estimates(weighted(probabilities, labels, classes, bins, np.ones((1, len(labels)))))


def bootstrap_weights(cases: int, settings: Evaluation) -> Floats:
    """Return a row of ones, then the count of each of `cases` in every bootstrap resample: (resamples + 1) x cases."""
    generator = np.random.default_rng(settings.seed)
    drawn = generator.multinomial(cases, np.full(cases, 1 / cases), size=settings.bootstrap_resamples)
    return np.concatenate([np.ones((1, cases)), drawn])


def point_estimates(weighted_values: Mapping[str, Floats]) -> dict[str, float]:
    """Return each figure under the first set of weights, without those that are undefined there."""
    return {name: round(float(values[0]), 6) for name, values in weighted_values.items() if np.isfinite(values[0])}


def bootstrap_intervals(weighted_values: Mapping[str, Floats]) -> dict[str, Interval]:
    """Return the 95 % percentile interval of each figure over its resamples."""
    resampled = {name: values[1:] for name, values in weighted_values.items()}
    ends = {name: np.nanpercentile(v, _INTERVAL) for name, v in resampled.items() if np.isfinite(v).any()}
    return {name: (round(float(low), 6), round(float(high), 6)) for name, (low, high) in ends.items()}


def weighted(
    probabilities: Floats, labels: Labels, classes: Sequence[str], bins: int, weights: Floats
) -> dict[str, Floats]:
    """Compute every figure under each row of `weights` (R x n); return arrays of R, NaN where a figure is undefined."""
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
        values = {
            "accuracy": hits.sum(axis=1) / total,
            "balanced_accuracy": np.nansum(recall, axis=1) / np.isfinite(recall).sum(axis=1),
            "log_loss": weights @ -np.log(own) / total,
            "brier": weights @ ((probabilities - np.eye(count)[labels]) ** 2).sum(axis=1) / total,
            "overconfidence": weights @ (probabilities.max(axis=1) - (predicted == labels)) / total,
            "expected_calibration_error": _calibration_error(probabilities, predicted == labels, bins, weights) / total,
        }
        for index, code in enumerate(classes):
            average_precision, roc_auc = _ranking(probabilities[:, index], labels == index, weights)
            values |= {
                f"recall.{code}": recall[:, index],
                f"precision.{code}": precision[:, index],
                f"f1.{code}": f1[:, index],
                f"average_precision.{code}": average_precision,
                f"roc_auc.{code}": roc_auc,
            }
    return values


def calibration_curve(probabilities: Floats, labels: Labels, bins: int) -> tuple[Floats, Floats, Labels]:
    """Return three arrays, per bin with cases: mean confidence of the top label, accuracy, and number of cases."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bin_index = _bin(confidence, bins)
    size = np.bincount(bin_index, minlength=bins)
    used = size > 0
    mean = np.bincount(bin_index, confidence, bins)[used] / size[used]
    share = np.bincount(bin_index, right, bins)[used] / size[used]
    return mean, share, size[used]


def _calibration_error(probabilities: Floats, right: Mask, bins: int, weights: Floats) -> Floats:
    confidence = probabilities.max(axis=1)
    gaps = (confidence - right)[:, None] * np.eye(bins)[_bin(confidence, bins)]
    error: Floats = np.abs(weights @ gaps).sum(axis=1)
    return error


def _bin(confidence: Floats, bins: int) -> Labels:
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def _ranking(scores: Floats, positive: Mask, weights: Floats) -> tuple[Floats, Floats]:
    """Return average precision (sum of precision times step in recall) and ROC AUC; a tie of scores is one step."""
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    sorted_weights = weights[:, order]
    true = np.cumsum(sorted_weights * positive[order], axis=1)[:, last_of_tie]
    false = np.cumsum(sorted_weights * ~positive[order], axis=1)[:, last_of_tie]
    recall_step = np.diff(true, axis=1, prepend=0) / true[:, -1:]
    precision = np.where(true + false > 0, true / (true + false), 0)
    true_rate = np.concatenate([np.zeros((len(weights), 1)), true], axis=1) / true[:, -1:]
    heights = (true_rate[:, 1:] + true_rate[:, :-1]) / 2
    area = (heights * np.diff(false, axis=1, prepend=0)).sum(axis=1) / false[:, -1]
    return (recall_step * precision).sum(axis=1), area
