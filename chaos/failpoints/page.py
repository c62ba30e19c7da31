"""The report on all failpoints as a page."""

from collections.abc import Mapping
from typing import Any

from tests.support.machine import describe

_COUNTED = ("hits", "answered", "lost", "doubled", "half_done")
_PAGE = """# Kills at failpoints

{conditions} The run took {minutes:.0f} minutes.

**{lost} lost, {doubled} doubled and {half_done} half done in {hits:,} kills.**
At the failpoints of `shared/failpoints.py` the process sends itself SIGKILL; in a checkpoint, strace sends it.
{answered:,} answers, events, rows or promotions were expected exactly once, and compared one by one. For inference,
every answer had to be that of one version. Half done are invalid states after a kill: tables that are neither the old
nor the new ones, an answer that mixes two models, an alias that contradicts its history or its link. SIGKILL ends a
process, not the machine; strace shows that answers wait for fsync (R14).

Seconds to recover, median / longest: from the kill until the next start was ready; for inference, until it served the
version in production; for copies and promotions, until the same command had finished. Up to three failpoints run at
the same time on this machine.

| failpoint | process | hits | expected | lost | doubled | half done | recovered |
|---|---|---|---|---|---|---|---|
{lines}
"""


def page(report: Mapping[str, Any]) -> str:
    """Return `report` as a page of Markdown."""
    rows = report["failpoints"]
    return _PAGE.format(
        conditions=describe(report["machine"], "python -m chaos.failpoints"),
        minutes=report["seconds"] / 60,
        lines="\n".join(line(row) for row in rows),
        **{name: sum(row[name] for row in rows) for name in _COUNTED},
    )


def line(row: Mapping[str, Any]) -> str:
    """Return the table's line of one failpoint."""
    recovered = f"{row['recovery_seconds_median']:.2f} / {row['recovery_seconds_max']:.2f}"
    numbers = " | ".join(f"{row[name]:,}" for name in _COUNTED)
    return f"| `{row['failpoint']}` | {row['place']} | {numbers} | {recovered} |"
