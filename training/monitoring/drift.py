"""Drift figures: the distance of recent predictions from the training data, and the doctors' agreement with them.

The population stability index (PSI) of two histograms e and a over the same intervals is the sum of (a - e) ln(a / e):
the symmetrised Kullback-Leibler divergence. Half a case is added to each interval, so that an empty one counts little
instead of infinitely. Agreement has Wilson's score interval (1927).
"""

import math
from collections.abc import Collection, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from shared.artifacts.baseline import Baseline
from training.config import Trigger
from training.data.cases import Floats, Labels
from training.data.distribution import count_values

_Z = 1.959964
"""The standard normal quantile of a 95 % interval."""
_HALF = 0.5


class DriftFigure(BaseModel):
    """One figure of `count` values (None if they are too few) and its limit; `interval` is its 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    count: int
    figure: float | None
    interval: tuple[float, float] | None = None
    rule: str
    limit: float
    beyond: bool

    @property
    def summary(self) -> str:
        """One line for people, if there is a figure."""
        ends = "" if self.interval is None else f" ({self.interval[0]:.3f} to {self.interval[1]:.3f})"
        verdict = "BEYOND " if self.beyond else "within "
        return f"{verdict}  {self.name} {self.figure:.3f}{ends} {self.rule} {self.limit:g}, n = {self.count:,}"


class RecentPredictions:
    """Histograms of recent predictions, counted chunk by chunk so that any number of rows fits in memory."""

    def __init__(self, reference: Baseline) -> None:
        """Count in the intervals of `reference`, the distribution of the training data."""
        self._reference = reference
        self._columns = {
            column: np.zeros(len(histogram.shares), dtype=np.int64) for column, histogram in reference.columns.items()
        }
        self._answers = dict.fromkeys(reference.answers, 0)
        self.predictions = 0

    @property
    def classes(self) -> Collection[str]:
        """The classes of the model in production."""
        return self._answers.keys()

    def add(self, rows: Sequence[Sequence[float]], answers: Sequence[str]) -> None:
        """Count encoded `rows`, and `answers`, those rows' outputs that the model in production computed.

        Each answer must be one of `classes`.
        """
        table = np.asarray(rows, dtype=np.float32).reshape(len(rows), len(self._columns))
        for index, column in enumerate(self._columns):
            self._columns[column] += count_values(table[:, index], self._reference.columns[column].edges)
        for answer in answers:
            self._answers[answer] += 1
        self.predictions += len(rows)

    def figures(self, limits: Trigger) -> list[DriftFigure]:
        """Compare each column and the answers with the training data."""
        figures = []
        for column, counts in self._columns.items():
            expected = self._reference.columns[column]
            cases = round(self._reference.cases * (1 - expected.missing))
            figures += [
                self._psi(column, counts, expected.shares, cases, limits),
                self._missing_change(column, int(counts.sum()), expected.missing, limits),
            ]
        counts = np.array(list(self._answers.values()))
        shares = list(self._reference.answers.values())
        return [*figures, self._psi("answers", counts, shares, self._reference.cases, limits)]

    def _psi(self, name: str, counts: Labels, expected: Sequence[float], cases: int, limits: Trigger) -> DriftFigure:
        count = int(counts.sum())
        figure = psi(counts, np.asarray(expected) * cases) if count >= limits.least else None
        return _at_most(f"{name}.psi", count, figure, limits.psi)

    def _missing_change(self, column: str, present: int, expected: float, limits: Trigger) -> DriftFigure:
        enough = self.predictions >= limits.least
        change = round(abs(1 - present / self.predictions - expected), 6) if enough else None
        return _at_most(f"{column}.missing_change", self.predictions, change, limits.missing)


def psi(counts: Labels, expected: Floats) -> float:
    """Return the population stability index of two arrays of counts over the same intervals."""
    a = (counts + _HALF) / (counts + _HALF).sum()
    e = (expected + _HALF) / (expected + _HALF).sum()
    return round(float(((a - e) * np.log(a / e)).sum()), 6)


def agreement(right: int, outcomes: int, limits: Trigger) -> DriftFigure:
    """Check the share of outcomes in which the doctor agreed; it is beyond its floor only with its whole interval."""
    enough = outcomes >= limits.least
    interval = wilson(right, outcomes) if enough else None
    return DriftFigure(
        name="outcomes.accuracy",
        count=outcomes,
        figure=round(right / outcomes, 6) if enough else None,
        interval=interval,
        rule=">=",
        limit=limits.accuracy,
        beyond=interval is not None and interval[1] < limits.accuracy,
    )


def wilson(right: int, of: int) -> tuple[float, float]:
    """Return the ends of Wilson's 95 % score interval of the share `right` / `of`."""
    middle = (right + _Z**2 / 2) / (of + _Z**2)
    half = _Z / (of + _Z**2) * math.sqrt(right * (of - right) / of + _Z**2 / 4)
    return round(max(middle - half, 0.0), 6), round(min(middle + half, 1.0), 6)


def _at_most(name: str, count: int, figure: float | None, limit: float) -> DriftFigure:
    beyond = figure is not None and figure > limit
    return DriftFigure(name=name, count=count, figure=figure, rule="<=", limit=limit, beyond=beyond)
