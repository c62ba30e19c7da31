"""How far what was recorded lately is from what the model learned from, and how often doctors agreed with it.

The population stability index (PSI) of two spreads e and a over the same intervals is the sum of (a - e) ln(a / e):
the symmetrised Kullback-Leibler divergence. Half a case is added to each interval, so that an empty one says little
instead of everything. Agreement has Wilson's score interval (1927).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from training.data.distribution import counted
from training.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.artifacts.baseline import Baseline
    from training.config import Trigger
    from training.data.cases import Floats, Labels

_Z = 1.959964
"""The standard normal quantile of a 95 % interval."""
_HALF = 0.5


class Finding(BaseModel):
    """One figure (None: too few for it), and whether it lies beyond its limit. `interval` is of 95 %."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    figure: float | None
    interval: tuple[float, float] | None = None
    rule: str
    limit: float
    beyond: bool

    def __str__(self) -> str:
        """Give the line that a person reads."""
        if self.figure is None:
            return f"too few  {self.name}"
        ends = "" if self.interval is None else f" ({self.interval[0]:.3f} to {self.interval[1]:.3f})"
        return (
            f"{'BEYOND ' if self.beyond else 'within '}  {self.name} {self.figure:.3f}{ends} {self.rule} {self.limit:g}"
        )


class Recent:
    """What was recorded lately, counted as it is read: rows in chunks, so that any number of them fits in memory."""

    def __init__(self, reference: Baseline) -> None:
        """Count in the intervals of `reference`."""
        self._reference = reference
        self._columns = {
            column: np.zeros(len(spread.shares), dtype=np.int64) for column, spread in reference.columns.items()
        }
        self._answers = dict.fromkeys(reference.answers, 0)
        self.predictions = 0

    def add(self, rows: Sequence[Sequence[float]], answers: Sequence[str]) -> None:
        """Count encoded `rows`, and the `answers` that the production model itself gave to some of them.

        Raises:
            DatabaseError: one of them is none that this model can give.

        """
        table = np.asarray(rows, dtype=np.float32).reshape(len(rows), len(self._columns))
        for index, column in enumerate(self._columns):
            self._columns[column] += counted(table[:, index], self._reference.columns[column].edges)
        for answer in answers:
            if answer not in self._answers:
                message = "predicciones: a row was changed after it was recorded; its output is no class of its model"
                raise DatabaseError(message)
            self._answers[answer] += 1
        self.predictions += len(rows)

    def findings(self, limits: Trigger) -> list[Finding]:
        """Compare with the training cases, column by column and answer by answer."""
        found = []
        for column, counts in self._columns.items():
            spread = self._reference.columns[column]
            found += [
                self._psi(column, counts, spread.shares, round(self._reference.cases * (1 - spread.missing)), limits),
                self._missing(column, int(counts.sum()), spread.missing, limits),
            ]
        answers = np.array(list(self._answers.values()))
        return [
            *found,
            self._psi("answers", answers, list(self._reference.answers.values()), self._reference.cases, limits),
        ]

    def _psi(self, name: str, counts: Labels, expected: Sequence[float], cases: int, limits: Trigger) -> Finding:
        figure = psi(counts, np.asarray(expected) * cases) if counts.sum() >= limits.least else None
        return Finding(
            name=f"{name}.psi",
            figure=figure,
            rule="<=",
            limit=limits.psi,
            beyond=figure is not None and figure > limits.psi,
        )

    def _missing(self, column: str, present: int, expected: float, limits: Trigger) -> Finding:
        enough = self.predictions >= limits.least
        change = round(abs(1 - present / self.predictions - expected), 6) if enough else None
        return Finding(
            name=f"{column}.missing_change",
            figure=change,
            rule="<=",
            limit=limits.missing,
            beyond=change is not None and change > limits.missing,
        )


def psi(counts: Labels, expected: Floats) -> float:
    """Give the population stability index of two sets of counts over the same intervals."""
    a = (counts + _HALF) / (counts + _HALF).sum()
    e = (expected + _HALF) / (expected + _HALF).sum()
    return round(float(((a - e) * np.log(a / e)).sum()), 6)


def agreement(right: int, outcomes: int, limits: Trigger) -> Finding:
    """Hold the share of outcomes in which the doctor agreed against its floor; below only with its whole interval."""
    interval = wilson(right, outcomes) if outcomes else None
    return Finding(
        name="outcomes.accuracy",
        figure=round(right / outcomes, 6) if outcomes else None,
        interval=interval,
        rule=">=",
        limit=limits.accuracy,
        beyond=interval is not None and interval[1] < limits.accuracy,
    )


def wilson(right: int, of: int) -> tuple[float, float]:
    """Give the ends of Wilson's 95 % score interval of the share `right` / `of`."""
    middle = (right + _Z**2 / 2) / (of + _Z**2)
    half = _Z / (of + _Z**2) * math.sqrt(right * (of - right) / of + _Z**2 / 4)
    return round(max(middle - half, 0.0), 6), round(min(middle + half, 1.0), 6)
