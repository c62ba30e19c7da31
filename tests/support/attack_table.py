"""The table of the attackers' suite: what was tried, and the number of tries and of successes, by risk.

A test reports its tries with the fixture `attack`. They travel in the test's report, also from a parallel worker,
and the run prints one table at its end.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

PROPERTY = "attack"
"""Name of the property of a test's report that holds its tries."""

_MOST_SHOWN, _SHOWN = 10, 800
"""Successes that a failed test lists, and characters of each."""


@dataclass
class Tries:
    """Tries of one kind against the product; `successes` describe those that achieved their aim."""

    number: int = 0
    successes: list[str] = field(default_factory=list)

    def add(self, description: object, *, success: bool) -> None:
        """Count one try."""
        self.number += 1
        if success:
            self.successes.append(str(description))


Attack = Callable[[str, str], AbstractContextManager[Tries]]
"""Starts tries: under a risk, such as "API2 Broken authentication", and described in a few words."""


def attack_of(properties: list[tuple[str, object]]) -> Attack:
    """Return a function that starts tries. At their end they are in `properties`, and a success fails the test."""

    @contextmanager
    def attack(risk: str, what: str) -> Iterator[Tries]:
        tries = Tries()
        yield tries
        properties.append((PROPERTY, [risk, what, tries.number, len(tries.successes)]))
        assert tries.number, f"{risk}: {what}: nothing was tried"
        shown = "".join(f"\n  {description[:_SHOWN]}" for description in tries.successes[:_MOST_SHOWN])
        assert tries.successes == [], f"{risk}: {what}: {len(tries.successes)} of {tries.number} succeeded:{shown}"

    return attack


def table(reports: Sequence[Any]) -> list[str]:
    """Return the lines of the table of all tries in the reports of tests; empty if there are none."""
    rows: dict[tuple[str, str], list[int]] = {}
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == PROPERTY and report.when == "call":
                risk, what, *numbers = value
                rows[risk, what] = [sum(pair) for pair in zip(rows.get((risk, what), [0, 0]), numbers, strict=True)]
    if not rows:
        return []
    cells = [(*names, *(f"{number:,}" for number in rows[names])) for names in sorted(rows, key=_order)]
    sums = (f"{sum(column):,}" for column in zip(*rows.values(), strict=True))
    return _aligned([("risk", "tried", "tries", "successes"), *cells, ("all", "", *sums)])


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        f"{risk:{widths[0]}}  {what:{widths[1]}}  {tries:>{widths[2]}}  {found:>{widths[3]}}"
        for risk, what, tries, found in cells
    ]


def _order(names: tuple[str, str]) -> tuple[int, str, str]:
    number = names[0].split()[0].removeprefix("API")
    return (int(number) if number.isdecimal() else 99), *names


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, if a test of this run tried anything."""
    reports = [report for listed in terminalreporter.stats.values() for report in listed]
    if lines := table(reports):
        terminalreporter.section("attacks")
        for line in lines:
            terminalreporter.write_line(line)
