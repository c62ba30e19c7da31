"""The model of a bundle, answering as it will serve: by ONNX, or by the pickle where ONNX is left out."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from shared.artifacts.bundle import ONNX, PICKLE
from training.model.boosting import predict
from training.model.onnx import open_onnx, predict_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.artifacts.bundle import Bundle
    from training.data.cases import Floats, Rows


def served(bundle: Bundle) -> Callable[[Rows], Floats]:
    """Give the function that serves: n x columns in, n x classes out."""
    if bundle.manifest.serves == "onnx":
        session = open_onnx(bundle.files[ONNX])
        return lambda rows: predict_onnx(session, rows)
    model = pickle.loads(bundle.files[PICKLE])  # noqa: S301 - its signature was verified when the bundle was opened
    return lambda rows: predict(model, rows)
