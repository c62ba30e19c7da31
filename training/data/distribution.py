"""The training cases as counts (`shared.artifacts.baseline`), and in which of its intervals a value lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.artifacts.baseline import Baseline, ColumnHistogram
from training.data.cases import decimal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training.data.cases import Labels, Rows

_INTERVALS = 10
_DIGITS = 6


def describe(rows: Rows, columns: Sequence[str], answers: Mapping[str, float]) -> Baseline:
    """Count the training `rows` (n x columns, NaN where missing); `answers` are shares by class."""
    return Baseline(
        cases=len(rows),
        columns={column: _spread(rows[:, index]) for index, column in enumerate(columns)},
        answers=dict(answers),
    )


def counted(values: Rows, edges: Sequence[float]) -> Labels:
    """Count the `values`, NaN left out, in each interval between `edges`; gives one count more than there are edges."""
    present = values[~np.isnan(values)]
    return np.bincount(np.searchsorted(_exact(edges), present, side="right"), minlength=len(edges) + 1)


def shares(counts: Labels) -> list[float]:
    """Give each count's share of the sum, all zero if nothing was counted."""
    return [round(float(count / max(counts.sum(), 1)), _DIGITS) for count in counts]


def _spread(values: Rows) -> ColumnHistogram:
    present = values[~np.isnan(values)]
    edges = _edges(present)
    return ColumnHistogram(
        edges=edges,
        shares=shares(counted(values, edges)),
        missing=round(1 - len(present) / max(len(values), 1), _DIGITS),
    )


def _edges(present: Rows) -> list[float]:
    """Give the deciles, or around every value if they are few, as those of a flag or a choice are.

    Then a value that no training case had lies in an interval that no training case lay in.
    """
    edges = np.unique(present)
    if len(edges) > _INTERVALS:
        deciles = np.quantile(present, np.arange(1, _INTERVALS) / _INTERVALS, method="inverted_cdf")
        edges = np.unique(np.append(edges[0], deciles))[1:]
    elif len(edges):
        edges = np.append(edges, np.nextafter(edges[-1], np.float32(np.inf)))
    return [decimal(edge) for edge in edges]


def _exact(edges: Sequence[float]) -> Rows:
    """Give the edges as the float32 values they are, as rows are."""
    return np.asarray(edges, dtype=np.float32)
