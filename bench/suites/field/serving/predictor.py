"""The model of the production bundle as a function, for tools that run our own Python code."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = npt.NDArray[np.float32]
Predict: TypeAlias = Callable[[Rows], npt.NDArray[np.float32]]
"""Function from rows (n x columns, NaN where missing) to probabilities (n x classes)."""


def predictor(model: Path) -> Predict:
    """Load `model`: an .onnx file with ONNX Runtime in one thread, as this system does, or else a pickle."""
    if model.suffix != ".onnx":
        # Our own, trained on this machine. The product never unpickles an unverified file.
        return pickle.loads(model.read_bytes()).predict_proba  # type: ignore[no-any-return]  # noqa: S301
    import onnxruntime  # noqa: PLC0415 - not every environment has it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(["probabilities"], {"X": rows})[0]


def as_row(values: list[float | None]) -> Rows:
    """Return the numbers of a request as one row; null is missing."""
    return np.array(values, dtype=np.float32)
