"""Conversion of a request's tensor to the rows of a model call."""

import numpy as np

from services.inference.serving.model import Rows
from shared.contracts.open_inference import INPUT, InferRequest, ProtocolError, flat_rows


def read_rows(request: InferRequest, columns: int, *, most: int) -> Rows:
    """Return the rows of `request`, 1 to `most` x `columns`, float32.

    Raises:
        ProtocolError: the model does not accept the tensor, or a number lies outside float32.

    """
    elements = flat_rows(request, columns, most=most)
    with np.errstate(over="ignore"):  # becomes infinite, which is rejected below
        rows = np.array(elements, dtype=np.float32).reshape(-1, columns)
    if np.isinf(rows).any():
        raise ProtocolError(f"{INPUT}: data has an element outside FP32")
    return rows
