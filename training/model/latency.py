"""Latency of a model, measured in the format that serves."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.data.cases import Floats, Rows

BATCH = 64
_CALLS = 200
_ROUNDS = 3
"""Other processes make a call slower, never faster: the best round counts."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of a call with one row (99th percentile, milliseconds), and time per row of a full batch (microseconds)."""

    one_row_p99_ms: float
    row_in_batch_us: float


def measure_latency(predict: Callable[[Rows], Floats], rows: Rows) -> Latency:
    """Time `predict` on `rows`, one row at a time and in batches; this takes less than a second."""
    batch = rows[np.arange(BATCH) % len(rows)]
    predict(batch)
    one = min(_percentile(predict, [rows[i % len(rows)][None] for i in range(_CALLS)], 99) for _ in range(_ROUNDS))
    many = min(_percentile(predict, [batch] * (_CALLS // 10), 50) for _ in range(_ROUNDS))
    return Latency(one_row_p99_ms=one * 1e3, row_in_batch_us=many / BATCH * 1e6)


def _percentile(predict: Callable[[Rows], Floats], calls: list[Rows], percentile: float) -> float:
    seconds = []
    for rows in calls:
        started = time.perf_counter()
        predict(rows)
        seconds.append(time.perf_counter() - started)
    return float(np.percentile(seconds, percentile))
