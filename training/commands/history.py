"""`python -m training history [--json]`: who moved which alias where, when and why."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from training.context import TrainingContext
    from training.registry.promotion_log import History, Kept

_COLUMNS = ("entry", "when (UTC)", "alias", "from", "to", "action", "who", "gates", "reason")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="every entry with its gate report, one JSON object a line")


def main(arguments: argparse.Namespace, context: TrainingContext) -> str:
    """Run the command; what it prints is all it has to say."""
    history = context.registry.history()
    lines = [as_json(one, history) for one in history.kept] if arguments.json else as_table(history)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return ""


def as_json(one: Kept, history: History) -> str:
    """Give an entry with everything that is kept of it."""
    content = one.entry.model_dump(mode="json") if one.entry else {}
    state = {"entry": one.number, "when": one.when.isoformat(timespec="seconds"), "outcome": _outcome(one, history)}
    return json.dumps({**state, **content}, ensure_ascii=False)


def as_table(history: History) -> list[str]:
    """Give the entries in columns, oldest first."""
    rows = [_COLUMNS, *(_row(one, history) for one in history.kept)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(one: Kept, history: History) -> tuple[str, ...]:
    entry, when = one.entry, f"{one.when:%Y-%m-%d %H:%M:%S}"
    if entry is None:
        return (str(one.number), when, "-", "-", "-", "-", "-", "-", "cannot be read")
    action = entry.action if (outcome := _outcome(one, history)) == "done" else f"{entry.action}, {outcome}"
    past = entry.forced[0] if len(entry.forced) == 1 else f"{len(entry.forced)} gates"
    gates = f"FORCED past {past}" if entry.forced else "passed" if entry.report else "-"
    return (
        str(one.number), when, entry.alias, entry.replaced or "-", entry.version, action, entry.who, gates, entry.reason
    )  # fmt: skip


def _outcome(one: Kept, history: History) -> str:
    if one.number in history.lost:
        return "too late"
    if history.altered is not None and one.number >= history.altered:
        return "does not fit"
    return "done" if one.applied else "interrupted"
