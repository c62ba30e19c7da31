"""Conversion of the model to ONNX, and its comparison with the pickle on float32 rows."""

import math
import warnings

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier

from shared.artifacts.bundle import Parity
from training.data.cases import Floats, Rows
from training.model.boosting import predict, thresholds

GOLDEN_ROWS = 32
_STEPS = 1e6
"""A difference is reported in millionths. Smaller digits depend on the C library and on ONNX Runtime's float32 sums."""


def convert(model: HistGradientBoostingClassifier) -> bytes:
    """Convert `model`: one input of n x columns, float32, NaN where missing; outputs labels and probabilities."""
    sample = np.zeros((1, model.n_features_in_), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # skl2onnx hands protobuf a bool where it takes an int
        content: bytes = to_onnx(model, sample, options={"zipmap": False}).SerializeToString()
    return content


def parity(model: HistGradientBoostingClassifier, onnx: bytes, rows: Rows, tolerance: float) -> Parity:
    """Compare both on `rows`: the largest difference of a probability, rounded up, and how many answers change."""
    expected, actual = predict(model, rows), predict_onnx(open_onnx(onnx), rows)
    comparable = expected.shape == actual.shape and bool(np.isfinite(actual).all())
    difference = math.ceil(float(np.abs(expected - actual).max()) * _STEPS) / _STEPS if comparable else 1.0
    flips = int((expected.argmax(axis=1) != actual.argmax(axis=1)).sum()) if comparable else len(rows)
    return Parity(
        rows=len(rows),
        max_abs_difference=difference,
        label_flips=flips,
        tolerance=tolerance,
        passed=difference <= tolerance and flips == 0,
    )


def boundary_rows(model: HistGradientBoostingClassifier, rows: Rows, seed: int) -> Rows:
    """Return three of `rows` for every threshold of the model, with that column just below, at and just above it."""
    compared = [(column, value) for column, value in thresholds(model) if np.isfinite(value)]
    boundaries = rows[np.random.default_rng(seed).integers(len(rows), size=3 * len(compared))].copy()
    for place, (column, value) in enumerate(compared):
        below, above = np.nextafter(value, np.float32(-np.inf)), np.nextafter(value, np.float32(np.inf))
        boundaries[3 * place : 3 * place + 3, column] = below, value, above
    return boundaries


def golden_rows(rows: Rows, seed: int) -> Rows:
    """Draw each column independently from `rows`: rows of no real patient, for the bundle's manifest."""
    drawn = np.random.default_rng(seed).integers(len(rows), size=(GOLDEN_ROWS, rows.shape[1]))
    return rows[drawn, np.arange(rows.shape[1])]


def open_onnx(onnx: bytes) -> onnxruntime.InferenceSession:
    """Open the model for prediction in one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def predict_onnx(session: onnxruntime.InferenceSession, rows: Rows) -> Floats:
    """Return the probabilities of `rows`."""
    probabilities: Floats = session.run([session.get_outputs()[1].name], {session.get_inputs()[0].name: rows})[0]
    return probabilities.astype(np.float64)
