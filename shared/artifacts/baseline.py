"""What a model learned from, as counts: so that anyone can ask later whether patients still are like that.

Shares, never values of a patient: it travels in the manifest of the bundle.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ColumnHistogram(BaseModel):
    """How one column was spread.

    `edges` are k ascending values; of the cases that had a value, `shares` says how many lay in each of the k + 1
    intervals between them (an edge belongs to the interval above it). `missing` is the share that had none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: list[float]
    shares: list[float]
    missing: float


class Reference(BaseModel):
    """The training cases by column, and how often each class was the model's answer to cases it was not fitted on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int
    columns: dict[str, ColumnHistogram]
    answers: dict[str, float]
