"""`python -m services.recorder quarantine`: what could not be recorded is looked at, tried again, or given up.

A row never vanishes without a trace: replayed, it is recorded as what it is; discarded, it stays without its bytes and
with the reason, so that every answer a gateway gave is still accounted for.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update

from services.recorder.db.database import DATABASE_ERRORS, open_database, read_url, reason
from services.recorder.db.tables import CUARENTENA
from services.recorder.ingest.parsing import Poison, read_row
from services.recorder.ingest.writes import write_batch
from shared.contracts.transport import Delivery
from shared.settings import BAD_SETTINGS, SettingsError
from shared.web.hosting import UNAVAILABLE, StartError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from sqlalchemy import Connection, Row

    from services.recorder.db.database import Database

NOT_DONE = 1
"""Exit code when a row is not there, or still cannot be recorded."""
_DISCARDED = "discarded: "


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the four actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="one line each: id, time, gateway, seq, size, reason; no patient values")
    show = actions.add_parser("show", help="the event, byte by byte: PATIENT DATA")
    show.add_argument("ids", type=int, nargs=1, metavar="ID")
    replay = actions.add_parser("replay", help="try again, after an upgrade for instance")
    replay.add_argument("ids", type=int, nargs="+", metavar="ID")
    discard = actions.add_parser("discard", help="remove the event for good; its place in the account stays")
    discard.add_argument("ids", type=int, nargs="+", metavar="ID")
    discard.add_argument("--reason", required=True, help="kept with the row; no patient values")


def quarantine_command(asked: Namespace, database_url: Callable[[], str]) -> int:
    """Do what `asked` says on the database; returns the exit code."""
    try:
        return asyncio.run(_run(asked, database_url()))
    except SettingsError as error:
        return _said(error, BAD_SETTINGS)
    except StartError as error:
        return _said(error, UNAVAILABLE)
    except DATABASE_ERRORS as error:
        return _said(f"the database cannot be used: {reason(error)}", UNAVAILABLE)


async def _run(asked: Namespace, url: str) -> int:
    async with open_database(read_url(url)) as database:
        if asked.action == "list":
            return await _list(database)
        done = True
        for row_id in asked.ids:
            row = await _find(database, row_id)
            if row is None:
                done = False
                _tell(f"{row_id}: no such row")
            elif asked.action == "show":
                _show(row.cuerpo)
            elif row.motivo.startswith(_DISCARDED):
                done = False
                _tell(f"{row_id}: {row.motivo}")
            elif asked.action == "discard":
                await database.writer.transaction(partial(_discard, row=row, why=asked.reason))
                _tell(f"{row_id}: discarded")
            else:
                done &= await _replay(database, row)
        return 0 if done else NOT_DONE


async def _list(database: Database) -> int:
    async with database.readers.connect() as connection:
        for row in await connection.execute(select(CUARENTENA).order_by(CUARENTENA.c.id)):
            moment = row.recibido.isoformat(timespec="seconds")
            origin = row.gateway_id or "no-gateway"
            _tell(f"{row.id}  {moment}  {origin}  {row.seq}  {len(row.cuerpo)} bytes  {row.motivo}")
    return 0


async def _find(database: Database, row_id: int) -> Row[Any] | None:
    async with database.readers.connect() as connection:
        return (await connection.execute(select(CUARENTENA).where(CUARENTENA.c.id == row_id))).one_or_none()


async def _replay(database: Database, row: Row[Any]) -> bool:
    """Record the event and take its row out, in one transaction; or say why not."""
    try:
        still = await database.writer.transaction(lambda connection: _record(connection, row))
    except DATABASE_ERRORS as error:
        still = f"the database does not take it: {reason(error)}"
    _tell(f"{row.id}: recorded" if still is None else f"{row.id}: stays: {still}")
    return still is None


def _record(connection: Connection, row: Row[Any]) -> str | None:
    now = datetime.now(UTC)
    read = read_row(Delivery(row.gateway_id, row.seq, row.cuerpo), now)
    if isinstance(read, Poison):
        return read.reason
    if row.seq < 1:
        return "no gateway's number is known for it"
    outcome = write_batch(connection, [read], (), now)
    if not outcome["recorded"] + outcome["outcomes"] + outcome["duplicate"]:
        return "its id is recorded with another question or answer"
    connection.execute(delete(CUARENTENA).where(CUARENTENA.c.id == row.id))
    return None


def _discard(connection: Connection, row: Row[Any], why: str) -> None:
    given_up = {"cuerpo": b"", "motivo": f"{_DISCARDED}{why} (it was: {row.motivo})"}
    connection.execute(update(CUARENTENA).where(CUARENTENA.c.id == row.id).values(given_up))


def _show(body: bytes) -> None:
    """Write the bytes as they are into a file or pipe; on a terminal, without what would steer it."""
    if sys.stdout.isatty():
        text = body.decode(errors="backslashreplace")
        _tell("".join(char if char.isprintable() else repr(char)[1:-1] for char in text))
    else:
        sys.stdout.buffer.write(body)


def _tell(line: str) -> None:
    print(line)  # noqa: T201 - what an operator asked for


def _said(what: object, code: int) -> int:
    print(f"recorder: {what}", file=sys.stderr)  # noqa: T201 - a person reads this, in one line
    return code
