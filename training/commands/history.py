"""`python -m training history [--json]`: list every move of an alias with its user, time and reason.

The table shows the promotion log, oldest entry first.
"""

import argparse
import json
import sys

from training.context import TrainingContext
from training.registry.promotion_log import PromotionLog, StoredEntry
from training.stage_runner import plain

_COLUMNS = ("entry", "when (UTC)", "alias", "from", "to", "action", "who", "gates", "reason")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object per entry, with its gate report")


def main(arguments: argparse.Namespace, context: TrainingContext) -> str:
    """Print the log; return an empty summary."""
    log = context.model_registry.promotion_log()
    lines = [as_json(stored, log) for stored in log.entries] if arguments.json else as_table(log)
    sys.stdout.write("".join(f"{plain(line)}\n" for line in lines))
    return ""


def as_json(stored: StoredEntry, log: PromotionLog) -> str:
    """Return an entry with all its fields and its outcome, as one line of JSON."""
    content = stored.entry.model_dump(mode="json") if stored.entry else {}
    when = stored.when.isoformat(timespec="seconds")
    return json.dumps(
        {"entry": stored.number, "when": when, "outcome": _outcome(stored, log), **content}, ensure_ascii=False
    )


def as_table(log: PromotionLog) -> list[str]:
    """Return the lines of a table: a header, then the entries, oldest first."""
    rows = [_COLUMNS, *(_row(stored, log) for stored in log.entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(stored: StoredEntry, log: PromotionLog) -> tuple[str, ...]:
    entry, when = stored.entry, f"{stored.when:%Y-%m-%d %H:%M:%S}"
    if entry is None:
        return (str(stored.number), when, "-", "-", "-", "-", "-", "-", "cannot be read")
    action = entry.action if (outcome := _outcome(stored, log)) == "done" else f"{entry.action}, {outcome}"
    past = entry.forced[0] if len(entry.forced) == 1 else f"{len(entry.forced)} gates"
    gates = f"FORCED past {past}" if entry.forced else "passed" if entry.report else "-"
    before = f"{entry.deleted} (deleted)" if entry.deleted else entry.replaced or "-"
    return (
        str(stored.number), when, entry.alias, before, entry.version, action, entry.who, gates,
        entry.reason,
    )  # fmt: skip


def _outcome(stored: StoredEntry, log: PromotionLog) -> str:
    if stored.number in log.late:
        return "too late"
    if log.altered is not None and stored.number >= log.altered:
        return "does not match"
    return "done" if stored.applied else "interrupted"
