"""The account of all failpoints, as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.machine import describe

if TYPE_CHECKING:
    from collections.abc import Mapping

_COUNTED = ("hits", "answered", "lost", "doubled", "half_done")
_PAGE = """# Killed between two steps

{conditions} It took {minutes:.0f} minutes.

**{lost} lost, {doubled} doubled and {half_done} half done in {hits:,} kills** at named lines of `shared/failpoints.py`,
where the process sends itself SIGKILL; in a checkpoint, strace does. {answered:,} answers, events, rows or promotions
had to be there once in the end, and were compared one by one; for inference, they are answers that had to be those of
one version. Half done are states that must not be seen after a kill: tables that are neither the old nor the new ones,
an answer that mixes two models, an alias that disagrees with its history or its link. SIGKILL ends a process and not
the machine: that answers wait for fsync, strace shows (R14).

Seconds to recover, median / longest: from the kill until the next start was ready; for inference, until it served what
is in production; for copies and promotions, until the same command had finished. Up to three failpoints at a
time share the machine.

| killed at | where | hits | to be there | lost | doubled | half done | recovered |
|---|---|---|---|---|---|---|---|
{lines}
"""


def page(report: Mapping[str, Any]) -> str:
    """Put `report` on a page of Markdown."""
    rows = report["failpoints"]
    return _PAGE.format(
        conditions=describe(report["machine"], "python -m chaos.failpoints"),
        minutes=report["seconds"] / 60,
        lines="\n".join(line(row) for row in rows),
        **{name: sum(row[name] for row in rows) for name in _COUNTED},
    )


def line(row: Mapping[str, Any]) -> str:
    """Put one failpoint on a line of the table."""
    recovered = f"{row['recovery_seconds_median']:.2f} / {row['recovery_seconds_max']:.2f}"
    numbers = " | ".join(f"{row[name]:,}" for name in _COUNTED)
    return f"| `{row['failpoint']}` | {row['place']} | {numbers} | {recovered} |"
