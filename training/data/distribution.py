"""Distribution of the training cases: a histogram per column (`shared.artifacts.baseline`)."""

from collections.abc import Mapping, Sequence

import numpy as np

from shared.artifacts.baseline import Baseline, ColumnHistogram
from training.data.cases import Labels, Rows, decimal

_INTERVALS = 10
_DIGITS = 6


def describe(rows: Rows, columns: Sequence[str], answers: Mapping[str, float]) -> Baseline:
    """Describe the training `rows` (n x columns, NaN where missing); `answers` are shares by class."""
    return Baseline(
        cases=len(rows),
        columns={column: _histogram(rows[:, index]) for index, column in enumerate(columns)},
        answers=dict(answers),
    )


def count_values(values: Rows, edges: Sequence[float]) -> Labels:
    """Count `values`, without NaN, in the len(edges) + 1 intervals that `edges` separate."""
    present = values[~np.isnan(values)]
    intervals = np.searchsorted(np.array(edges, dtype=np.float32), present, side="right")
    return np.bincount(intervals, minlength=len(edges) + 1)


def shares(counts: Labels) -> list[float]:
    """Return each count's share of the sum; all zero if the sum is zero."""
    return [round(float(count / max(counts.sum(), 1)), _DIGITS) for count in counts]


def _histogram(values: Rows) -> ColumnHistogram:
    present = values[~np.isnan(values)]
    edges = _edges(present)
    return ColumnHistogram(
        edges=edges,
        shares=shares(count_values(values, edges)),
        missing=round(1 - len(present) / max(len(values), 1), _DIGITS),
    )


def _edges(present: Rows) -> list[float]:
    """Return the deciles, or with few distinct values, as of a flag or a choice, edges around every value.

    Then a value that no training case has falls into an interval without training cases.
    """
    edges = np.unique(present)
    if len(edges) > _INTERVALS:
        deciles = np.quantile(present, np.arange(1, _INTERVALS) / _INTERVALS, method="inverted_cdf")
        edges = np.unique(np.append(edges[0], deciles))[1:]
    elif len(edges):
        edges = np.append(edges, np.nextafter(edges[-1], np.float32(np.inf)))
    return [decimal(edge) for edge in edges]
