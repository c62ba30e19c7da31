"""From the numbers of a request to the rows a model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.contracts.open_inference import INPUT, InferRequest, ProtocolError, flat_rows

if TYPE_CHECKING:
    from services.inference.serving.model import Rows


def read_rows(request: InferRequest, columns: int, *, most: int) -> Rows:
    """Give the rows of `request`, 1 to `most` x `columns`.

    Raises:
        ProtocolError: the tensor is not what the model takes, or a number lies outside float32.

    """
    elements = flat_rows(request, columns, most=most)
    with np.errstate(over="ignore"):  # becomes infinite, which is refused below
        rows = np.array(elements, dtype=np.float32).reshape(-1, columns)
    if np.isinf(rows).any():
        raise ProtocolError(f"{INPUT}: data has an element outside FP32")
    return rows
