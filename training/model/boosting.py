"""The model: a few gradient-boosted members, averaged and calibrated, as one ordinary scikit-learn classifier.

The raw score of HistGradientBoosting is a baseline plus a sum of leaf values. The average of K members, divided by a
temperature T (Guo et al. 2017, arXiv:1706.04599), is therefore again such a sum, with every leaf divided by K T: one
plain HistGradientBoostingClassifier, which pickles and converts to ONNX as any other, where a wrapper would not.
"""

import copy

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from training.config import ModelParameters
from training.data.cases import Cases, Days, Floats, Labels, Rows

_DAYS_PER_MONTH = 30.4375
_LEAST = 1e-9
"""Probability of a class without cases in the fitted part of a fold."""
_TEMPERATURES = (0.25, 4.0)
"""Range of the temperature. A best value at an end means too few validation cases for calibration."""


def case_weights(labels: Labels, days: Days | None, power: float, half_life_months: float | None) -> Floats:
    """Weigh each case, on average 1: (1 / frequency of its class) ** `power`, halved per `half_life_months` of age."""
    counts = np.bincount(labels)
    weights: Floats = (len(labels) / counts[labels]) ** power
    if half_life_months is not None and days is not None:
        age = (days.max() - days).astype(np.float64) / _DAYS_PER_MONTH
        weights = weights * 0.5 ** (age / half_life_months)
    balanced: Floats = weights / weights.mean()
    return balanced


def fit(training: Cases, power: float, parameters: ModelParameters) -> list[HistGradientBoostingClassifier]:
    """Fit the members; they differ by their seed alone.

    One thread: on a few thousand rows a second gains little, and beside a busy process its spinning costs 30 times.
    """
    weights = case_weights(training.labels, training.days, power, parameters.recency_half_life_months)
    settings = parameters.model_dump(exclude={"members", "recency_half_life_months", "seed"})
    with threadpool_limits(limits=1):
        return [
            HistGradientBoostingClassifier(**settings, early_stopping=False, random_state=parameters.seed + member).fit(
                training.rows, training.labels, sample_weight=weights
            )
            for member in range(parameters.members)
        ]


def predict(model: HistGradientBoostingClassifier, rows: Rows) -> Floats:
    """Return the probabilities of `rows`, computed in one thread."""
    with threadpool_limits(limits=1):
        probabilities: Floats = model.predict_proba(rows)
    return probabilities


def log_scores(members: list[HistGradientBoostingClassifier], rows: Rows, classes: int) -> Floats:
    """Average the members' log probabilities: n x `classes`, up to a constant per row, which softmax ignores."""
    scores = np.full((len(rows), classes), np.log(_LEAST))
    logs = [np.log(np.maximum(predict(member, rows), _LEAST)) for member in members]
    scores[:, members[0].classes_] = np.mean(logs, axis=0)
    return scores


def in_float32(values: Floats) -> Floats:
    """Round each value to the nearest float32, the precision in which the ONNX model serves; the array stays float64.

    numpy's `log` and `exp` use the instruction set of the processor at hand, and differ between two of them in the last
    bits of a float64. Rounded, a value has the same bits on both, and so has a file that is made from it.
    """
    rounded: Floats = values.astype(np.float32).astype(np.float64)
    return rounded


def best_temperature(scores: Floats, labels: Labels) -> float:
    """Return the temperature that minimises the log loss of softmax(scores / temperature) for `labels`."""
    own = np.arange(len(labels)), labels

    def log_loss(log_temperature: float) -> float:
        return float(-np.log(np.maximum(softmax(scores / np.exp(log_temperature), axis=1)[own], _LEAST)).mean())

    minimum = minimize_scalar(log_loss, bounds=np.log(_TEMPERATURES), method="bounded", options={"xatol": 1e-4})
    return round(float(np.exp(minimum.x)), 3)


def merge(members: list[HistGradientBoostingClassifier], temperature: float) -> HistGradientBoostingClassifier:
    """Build the classifier whose raw score is the members' average divided by `temperature`.

    Thresholds are lowered to the next float32, which sends every float32 value the same way as before, and makes ONNX,
    which only knows float32 thresholds, take the same branch as scikit-learn. All other numbers are rounded to float32,
    so that every processor makes the same pickle.
    """
    divisor = len(members) * temperature
    merged = copy.deepcopy(members[0])
    merged._predictors = [copy.deepcopy(trees) for member in members for trees in member._predictors]  # noqa: SLF001
    baseline = sum(member._baseline_prediction for member in members) / divisor  # noqa: SLF001
    merged._baseline_prediction = in_float32(baseline)  # noqa: SLF001
    for trees in merged._predictors:  # noqa: SLF001 - no public way to a tree; scikit-learn is pinned, a test compares
        for tree in trees:
            tree.nodes["value"] = in_float32(tree.nodes["value"] / divisor)
            tree.nodes["gain"] = in_float32(tree.nodes["gain"])
            tree.nodes["num_threshold"] = _lowered(tree.nodes["num_threshold"])
    return merged


def thresholds(model: HistGradientBoostingClassifier) -> list[tuple[int, np.float32]]:
    """List every (column, threshold) the model compares with, once each, in order."""
    nodes = np.concatenate([tree.nodes for trees in model._predictors for tree in trees])  # noqa: SLF001 - as in merge
    inner = nodes[nodes["is_leaf"] == 0]
    return sorted({(int(node["feature_idx"]), np.float32(node["num_threshold"])) for node in inner})


def _lowered(values: Floats) -> Rows:
    rounded = values.astype(np.float32)
    return np.where(rounded > values, np.nextafter(rounded, np.float32(-np.inf)), rounded)
