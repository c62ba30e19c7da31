"""`python -m services.recorder transfer`: copy every row of one database into another, and verify the copy."""

import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TextIO

from sqlalchemy import URL, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from services.recorder.accounting.outbox_reports import merge_reports
from services.recorder.analysts.dictionary import merge_dictionary
from services.recorder.analysts.views import view_name
from services.recorder.commands import View, fail, refresh_analysts_view, run_command, say
from services.recorder.db.database import Database, open_database
from services.recorder.db.tables import CLAVES, DICCIONARIO, GATEWAYS, METADATA
from services.recorder.enrolment.keys import merge_keys
from services.recorder.transfer.copy import Key, copy_table, count, read_all
from services.recorder.transfer.verify import Comparison, compare_table
from shared.database_url import shown
from shared.settings import SettingsError

DIFFERENT = 1
"""Exit code when a row is missing or different in the target."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as in a shell."""
_LISTED = 20
"""Keys printed per table and problem; the others are only counted."""
_STATEMENT_SECONDS = 3600
"""A statement may count or sort a whole table, which takes longer than any of the recorder."""
_MERGED = (DICCIONARIO, GATEWAYS, CLAVES)
"""Tables whose rows change in place: they are merged, not copied and compared."""
_BAR_WIDTH = 30
_RESUME = "run the same command again: it resumes where it stopped"


class Progress:
    """The progress of one step: a bar on a terminal, otherwise a line at every tenth."""

    def __init__(self, step: str, total: int, stream: TextIO) -> None:
        """Report to `stream` on `step`, which has `total` rows."""
        self._step, self._total, self._stream = step, total, stream
        self._done = self._tenths = 0
        self._started = time.monotonic()

    def advance(self, rows: int) -> None:
        """Add `rows` to the rows that are done."""
        self._done += rows
        share = min(1.0, self._done / self._total) if self._total else 1.0
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        line = f"{self._step:<24} {share:>4.0%}  {self._done:,} of {self._total:,} rows, {rate:,.0f}/s"
        if self._stream.isatty():
            filled = round(share * _BAR_WIDTH)
            end = "\n" if self._done >= self._total else ""
            self._stream.write(f"\r[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {line}\x1b[K{end}")
        elif int(share * 10) > self._tenths:
            self._tenths = int(share * 10)
            self._stream.write(f"{line}\n")
        self._stream.flush()


def transfer_command(
    source: str | None, target: str | None, database: Callable[[str | None], URL], view: Callable[[], View]
) -> int:
    """Copy and verify; return the exit code: 0 only if every row of `source` is in `target`, exactly.

    `database` parses a URL; None is `DATABASE_URL`. The target gets the analysts' `view` if the source has it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # to advise after Ctrl-C

    async def run() -> int:
        return await _transfer(*_urls(source, target, database), view())

    try:
        return run_command("transfer", run, advice=f"; {_RESUME}")
    except ValueError as error:  # SQLite accepts any text as a time
        return fail("transfer", f"a time in the database cannot be read: {error}; correct that row", DIFFERENT)
    except KeyboardInterrupt:
        return fail("transfer", f"interrupted; {_RESUME}", INTERRUPTED)


def _urls(source: str | None, target: str | None, database: Callable[[str | None], URL]) -> tuple[URL, URL]:
    urls = []
    for option, text in (("--from", source), ("--to", target)):
        try:
            urls.append(database(text))
        except SettingsError as error:
            place = "settings: DATABASE_URL" if text is None else option
            raise SettingsError(str(error).replace("settings: DATABASE_URL", place)) from None
    source_url, target_url = urls
    if shown(source_url) == shown(target_url):
        raise SettingsError("--from and --to are the same database; name two")
    if source_url.drivername == "sqlite" and not Path(source_url.database or "").is_file():
        raise SettingsError(f"--from: there is no file {source_url.database}; name the predicciones.db to copy")
    return source_url, target_url


async def _transfer(source_url: URL, target_url: URL, view: View) -> int:
    async with (
        open_database(source_url, statement_seconds=_STATEMENT_SECONDS, writes=False) as source,
        open_database(target_url, statement_seconds=_STATEMENT_SECONDS) as target,
        source.readers.connect() as reading,  # one transaction: a snapshot, whatever is written meanwhile
    ):
        tables = [table for table in METADATA.sorted_tables if table not in _MERGED]
        comparisons = [await _transfer_table(reading, target, table) for table in tables]
        reports = await read_all(reading, GATEWAYS)  # after the rows that they report on
        await target.writer.transaction(partial(merge_reports, reports, datetime.now(UTC)))
        say(f"gateways: {len(reports)} accounts taken over, where the target has none that is newer")
        keys = await read_all(reading, CLAVES)
        await target.writer.transaction(partial(merge_keys, keys))
        say(f"claves_gateway: {len(keys)} gateways enrolled or revoked as in the source")
        entries = await read_all(reading, DICCIONARIO)
        merged = await target.writer.transaction(partial(merge_dictionary, entries))
        say(f"diccionario: {merged} lines taken over")
        if view_name(view[0]) in {entry["vista"] for entry in entries}:
            await refresh_analysts_view(target, view)
        else:
            say(f"view {view_name(view[0])}: the source does not have it, so it is not created here either")
    wrong = sum(len(comparison.missing) + len(comparison.different) for comparison in comparisons)
    if wrong:
        return fail("transfer", f"{wrong} rows differ; they are listed above. Nothing was overwritten", DIFFERENT)
    say("equal: every row of the source is in the target, exactly")
    return 0


async def _transfer_table(reading: AsyncConnection, target: Database, table: Table) -> Comparison:
    total = await count(reading, table)
    copying = Progress(f"{table.name} copied", total, sys.stderr)
    copied, rejected = await copy_table(reading, target, table, copying.advance)
    comparing = Progress(f"{table.name} compared", total, sys.stderr)
    comparison = await compare_table(reading, target, table, comparing.advance)
    _print_result(comparison, copied, rejected)
    return comparison


def _print_result(comparison: Comparison, copied: int, rejected: list[Key]) -> None:
    ours, theirs = (digest[:16] for digest in comparison.digests)
    digests = f"digest {ours} on both sides" if ours == theirs else f"digests {ours} and {theirs}"
    rows = f"{comparison.source_rows:,} rows in the source, {comparison.target_rows:,} in the target"
    say(f"{comparison.table}: {rows}; {copied:,} new; {digests}")
    _print_keys("the target refuses a value in", rejected)
    _print_keys("missing in the target", comparison.missing)
    _print_keys("differs in the target", comparison.different)


def _print_keys(problem: str, keys: list[Key]) -> None:
    for key in keys[:_LISTED]:
        say(f"  {problem}: {' '.join(map(str, key))}")
    if len(keys) > _LISTED:
        say(f"  {problem}: {len(keys) - _LISTED:,} more")
