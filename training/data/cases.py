"""Encoded cases as a CSV table, `cases.csv`, that stages exchange and any tool can read.

Its columns are `line` (of the raw file), `by_rule` (the answer of the disease's rule, empty if it has no rule), the
model's columns (a number, empty where missing), `diagnosis` (a class code) and `date` (ISO 8601, empty where unknown).
Numbers are float32, written with as many digits as identify them.
"""

import csv
import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from training.errors import DataError

Rows: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.int64]
Days: TypeAlias = npt.NDArray[np.datetime64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]


class Example(NamedTuple):
    """One encoded row with its diagnosis and date, the line of the raw file where it ends, and the rule's answer."""

    row: list[float]
    diagnosis: str
    date: dt.date | None
    line: int
    by_rule: str = ""


@dataclass(frozen=True, slots=True)
class Cases:
    """n cases: `rows` n x columns, `labels` n indices into the classes, `days` n dates or None if any is unknown."""

    rows: Rows
    labels: Labels
    days: Days | None

    def __len__(self) -> int:
        """The number of cases."""
        return len(self.labels)

    def where(self, chosen: Mask) -> "Cases":
        """Return the cases that `chosen` marks."""
        return Cases(self.rows[chosen], self.labels[chosen], None if self.days is None else self.days[chosen])


def write_cases(path: Path, columns: Sequence[str], cases: Iterable[Example]) -> None:
    """Write `cases`, encoded by `columns`, to `path`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["line", "by_rule", *columns, "diagnosis", "date"])
        for row, diagnosis, day, line, by_rule in cases:
            numbers = ["" if np.isnan(value) else _shortest(value) for value in row]
            writer.writerow([line, by_rule, *numbers, diagnosis, "" if day is None else day.isoformat()])


def read_cases(path: Path, classes: Sequence[str]) -> Cases:
    """Read a file of `write_cases`."""
    index = {code: position for position, code in enumerate(classes)}
    lines = _read(path)
    days = [line[-1] for line in lines]
    return Cases(
        rows=np.array([[float(value or "nan") for value in line[2:-2]] for line in lines], dtype=np.float32),
        labels=np.array([index[line[-2]] for line in lines], dtype=np.int64),
        days=np.array(days, dtype="datetime64[D]") if all(days) else None,
    )


def read_lines(path: Path) -> Labels:
    """Read the line of the raw file of each case: n numbers; the header is line 1."""
    return np.array([int(line[0]) for line in _read(path)], dtype=np.int64)


def read_rule(path: Path, classes: Sequence[str]) -> Labels | None:
    """Read the answer of the disease's rule to each case, as n indices into the classes; None without a rule.

    Raises:
        DataError: the rule answers some cases only.

    """
    answers = [line[1] for line in _read(path)]
    if not any(answers):
        return None
    if not all(answers):
        without = answers.count("")
        message = f"by_rule has no answer for {without:,} of {len(answers):,} cases; it must answer all or none"
        raise DataError(message)
    return np.array([classes.index(code) for code in answers], dtype=np.int64)


def decimal(value: np.float32) -> float:
    """Return the shortest decimal number that is `value` in float32: 0.7, where float() returns 0.699999988."""
    return float(str(value))


def _read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def _shortest(value: float) -> str:
    return str(np.float32(value)).removesuffix(".0")
