"""The baseline of a model: counts of its training cases, to detect later that patients have changed.

Shares only, never a patient's values: the baseline is part of the bundle's manifest.
"""

from pydantic import BaseModel, ConfigDict


class ColumnHistogram(BaseModel):
    """The distribution of one column.

    `edges` are k ascending values. `shares` are k + 1 shares of the cases with a value: one for each interval between
    the edges (an edge belongs to the interval above it). `missing` is the share of cases without a value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: list[float]
    shares: list[float]
    missing: float


class Baseline(BaseModel):
    """The training cases by column, and how often the model answered each class for cases it was not fitted on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int
    columns: dict[str, ColumnHistogram]
    answers: dict[str, float]
