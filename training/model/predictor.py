"""Predictor of a bundle: its model in the format that serves, ONNX, or the pickle where ONNX is left out."""

import pickle
from collections.abc import Callable

from shared.artifacts.bundle import ONNX, PICKLE, Bundle
from training.data.cases import Floats, Rows
from training.model.boosting import predict
from training.model.onnx import open_onnx, predict_onnx


def load_predictor(bundle: Bundle) -> Callable[[Rows], Floats]:
    """Return the function that maps n x columns encoded values to n x classes probabilities."""
    if bundle.manifest.serves == "onnx":
        session = open_onnx(bundle.files[ONNX])
        return lambda rows: predict_onnx(session, rows)
    model = pickle.loads(bundle.files[PICKLE])  # noqa: S301 - its signature was verified when the bundle was opened
    return lambda rows: predict(model, rows)
