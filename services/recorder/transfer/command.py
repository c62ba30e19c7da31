"""`python -m services.recorder migrate`: every row of one database into another, and the proof that it is there."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from services.recorder.accounting.outbox_reports import adopt_reports, read_reports
from services.recorder.analysts.dictionary import adopt_dictionary, read_dictionary
from services.recorder.db.database import DATABASE_ERRORS, open_database, read_url, reason
from services.recorder.db.tables import DICCIONARIO, GATEWAYS, METADATA
from services.recorder.transfer.copy import copy_table, count
from services.recorder.transfer.verify import compare_table
from shared.settings import BAD_SETTINGS, SettingsError
from shared.web.hosting import UNAVAILABLE, StartError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from services.recorder.db.database import Database
    from services.recorder.transfer.copy import Key
    from services.recorder.transfer.verify import Comparison

DIFFERENT = 1
"""Exit code when a row lacks or differs."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
_NAMED = 20
"""Keys named per table; more are counted."""
_IN_MOTION = (DICCIONARIO, GATEWAYS)
"""Rows of these change in place, so they are brought forward and not compared."""
_WIDTH = 30
_AGAIN = "run the same command again: it goes on where it was cut"


class Progress:
    """How far one step is: a bar on a terminal, otherwise a line at every tenth."""

    def __init__(self, step: str, total: int, stream: TextIO) -> None:
        """Tell `stream` about `step`, which has `total` rows."""
        self._step, self._total, self._stream = step, total, stream
        self._done = self._tenths = 0
        self._started = time.monotonic()

    def told(self, rows: int) -> None:
        """Advance by `rows`."""
        self._done += rows
        share = min(1.0, self._done / self._total) if self._total else 1.0
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        line = f"{self._step:<24} {share:>4.0%}  {self._done:,} of {self._total:,} rows, {rate:,.0f}/s"
        if self._stream.isatty():
            filled = round(share * _WIDTH)
            end = "\n" if self._done >= self._total else ""
            self._stream.write(f"\r[{'#' * filled}{'.' * (_WIDTH - filled)}] {line}\x1b[K{end}")
        elif int(share * 10) > self._tenths:
            self._tenths = int(share * 10)
            self._stream.write(f"{line}\n")
        self._stream.flush()


def migrate_command(source: str | None, target: str | None, otherwise: Callable[[], str]) -> int:
    """Copy and prove; returns the exit code: 0 only if every row of `source` is in `target`, exactly.

    `otherwise` gives the URL that is left out.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # to say what to do after Ctrl-C
    try:
        urls = _urls(source or otherwise(), target or otherwise())
        return asyncio.run(_migrate(*urls))
    except SettingsError as error:
        return _ended(str(error), BAD_SETTINGS)
    except StartError as error:
        return _ended(str(error), UNAVAILABLE)
    except DATABASE_ERRORS as error:
        return _ended(f"a database went away: {reason(error)}; {_AGAIN}", UNAVAILABLE)
    except ValueError as error:  # SQLite takes any text for a time
        return _ended(f"a time in the database cannot be read: {error}; correct that row", DIFFERENT)
    except KeyboardInterrupt:
        return _ended(f"interrupted; {_AGAIN}", INTERRUPTED)


def _urls(source: str, target: str) -> tuple[URL, URL]:
    urls = []
    for option, text in (("--from", source), ("--to", target)):
        try:
            urls.append(read_url(text))
        except SettingsError as error:
            raise SettingsError(str(error).replace("settings: DATABASE_URL", option)) from None
    given, wanted = urls
    if given == wanted:
        raise SettingsError("--from and --to are the same database; name two")
    if given.drivername == "sqlite" and not Path(given.database or "").is_file():
        raise SettingsError(f"--from: there is no file {given.database}; name the predicciones.db to copy")
    return given, wanted


async def _migrate(source_url: URL, target_url: URL) -> int:
    async with (
        open_database(source_url) as source,
        open_database(target_url) as target,
        source.readers.connect() as reading,  # one transaction: it sees one moment, whatever is written meanwhile
    ):
        results = [await _move(reading, target, table) for table in METADATA.sorted_tables if table not in _IN_MOTION]
        reports = await read_reports(reading)  # after the rows that they speak of
        await target.writer.transaction(partial(adopt_reports, reports, datetime.now(UTC)))
        _say(f"gateways: {len(reports)} accounts taken over, where the target has none that is newer")
        adopted = await target.writer.transaction(partial(adopt_dictionary, await read_dictionary(reading)))
        _say(f"diccionario: {adopted} lines taken over; the recorder keeps the rest in step at its start")
    wrong = sum(len(result.missing) + len(result.different) for result in results)
    if wrong:
        return _ended(f"{wrong} rows differ; what is above names them. Nothing was overwritten", DIFFERENT)
    _say("equal: every row of the source is in the target, exactly")
    return 0


async def _move(reading: AsyncConnection, target: Database, table: Table) -> Comparison:
    total = await count(reading, table)
    copied, refused = await copy_table(reading, target, table, Progress(f"{table.name} copied", total, sys.stderr).told)
    proving = Progress(f"{table.name} compared", total, sys.stderr)
    result = await compare_table(reading, target, table, proving.told)
    here, there = result.digests
    digest = f"digest {here[:16]} on both sides" if here == there else f"digests {here[:16]} and {there[:16]}"
    _say(f"{table.name}: {result.here:,} rows in the source, {result.there:,} in the target; {copied:,} new; {digest}")
    _name("the target refuses a value in", refused)
    _name("lacks in the target", result.missing)
    _name("differs in the target", result.different)
    return result


def _name(what: str, keys: list[Key]) -> None:
    for key in keys[:_NAMED]:
        _say(f"  {what}: {' '.join(map(str, key))}")
    if len(keys) > _NAMED:
        _say(f"  {what}: {len(keys) - _NAMED:,} more")


def _say(line: str) -> None:
    print(line)  # noqa: T201 - a person reads this


def _ended(line: str, code: int) -> int:
    print(f"migrate: {line}", file=sys.stderr)  # noqa: T201 - the same
    return code
