"""How fast a model answers, measured as it will serve."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.data.cases import Floats, Rows

BATCH = 64
_CALLS = 200
_ROUNDS = 3
"""Whatever else runs here makes a call slower, never faster: so the best of some rounds counts."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A call with one row (99th percentile, milliseconds), and a row's share of a full batch (microseconds)."""

    one_row_p99_ms: float
    row_in_batch_us: float


def measured(answer: Callable[[Rows], Floats], rows: Rows) -> Latency:
    """Time `answer` on `rows`, one at a time and in batches; takes less than a second for a model that serves."""
    batch = rows[np.arange(BATCH) % len(rows)]
    answer(batch)
    one = min(_percentile(answer, [rows[i % len(rows)][None] for i in range(_CALLS)], 99) for _ in range(_ROUNDS))
    many = min(_percentile(answer, [batch] * (_CALLS // 10), 50) for _ in range(_ROUNDS))
    return Latency(one_row_p99_ms=one * 1e3, row_in_batch_us=many / BATCH * 1e6)


def _percentile(answer: Callable[[Rows], Floats], calls: list[Rows], percentile: float) -> float:
    seconds = []
    for rows in calls:
        started = time.perf_counter()
        answer(rows)
        seconds.append(time.perf_counter() - started)
    return float(np.percentile(seconds, percentile))
