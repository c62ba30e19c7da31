"""`python -m services.recorder quarantine`: list, show, replay and discard deliveries that could not be recorded.

No row vanishes: a replayed one is recorded, a discarded one stays without its bytes and with the reason, so that every
answer of a gateway is still accounted for.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import URL, Connection, Row, delete, select, update

from services.recorder.commands import gateway_argument, line_argument, row_argument, run_command, say
from services.recorder.db.database import DATABASE_ERRORS, Database, open_database, reason
from services.recorder.db.tables import CUARENTENA
from services.recorder.ingest.parsing import DeadLetter, order_feedback, read_row
from services.recorder.ingest.writes import write_batch
from services.recorder.message_replay import IN_ORDER, RowChangedError, lock_row, messages_claiming, replay_message
from shared.contracts.transport import Delivery

NOT_DONE = 1
"""Exit code when a row does not exist, or still cannot be recorded."""
_DISCARDED = "discarded: "
_YEAR = timedelta(days=366)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the four actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="print a line per row: id, time, gateway, seq, size, reason; no patient values")
    show = actions.add_parser("show", help="print the event, byte by byte: PATIENT DATA")
    show.add_argument("ids", type=row_argument, nargs=1, metavar="ID")
    replay = actions.add_parser("replay", help="try to record the event again, for instance after an upgrade")
    rows = replay.add_mutually_exclusive_group(required=True)
    rows.add_argument("ids", type=row_argument, nargs="*", default=[], metavar="ID")
    rows.add_argument("--all", action="store_true", help="every row; those that still cannot be recorded stay")
    rows.add_argument(
        "--gateway", type=gateway_argument, metavar="GATEWAY", help="every message that claims to be of this gateway"
    )
    replay.add_argument(
        "--clock-ahead", action="store_true", help="also events of a gateway whose clock is ahead, by a year at most"
    )
    replay.add_argument(
        "--unproven", action="store_true", help="record messages although nothing proves which gateway sent them"
    )
    discard = actions.add_parser("discard", help="remove the event for good; its seq stays accounted for")
    discard.add_argument("ids", type=row_argument, nargs="+", metavar="ID")
    discard.add_argument("--reason", type=line_argument, required=True, help="stored with the row; no patient values")


def quarantine_command(arguments: Namespace, database: Callable[[], URL]) -> int:
    """Run the action of `arguments` on the database; return the exit code."""

    async def run() -> int:
        changes = arguments.action in {"replay", "discard"}
        async with open_database(database(), writes=changes) as opened:
            if arguments.action == "list":
                return await _list(opened)
            chosen = await _chosen(opened, arguments)
            if not chosen and arguments.gateway is not None:
                say(f"{arguments.gateway}: no message claims to be of this gateway")
                return NOT_DONE
            if not chosen:
                say("no row to replay")
            done = [await _act(opened, row_id, arguments) for row_id in chosen]
            return 0 if all(done) else NOT_DONE

    return run_command("quarantine", run)


async def _act(database: Database, row_id: int, arguments: Namespace) -> bool:
    """Run an action on one row; return whether it was done."""
    async with database.readers.connect() as connection:
        row = (await connection.execute(select(CUARENTENA).where(CUARENTENA.c.id == row_id))).one_or_none()
    if row is None:
        say(f"{row_id}: no such row")
        return False
    if arguments.action == "show":
        _show(row.cuerpo)
        return True
    if row.motivo.startswith(_DISCARDED):
        say(f"{row_id}: {row.motivo}")
        return False
    try:
        return await change_row(database, row, arguments)
    except RowChangedError:
        say(f"{row_id}: another command changed it meanwhile")
        return False


async def change_row(database: Database, row: Row[Any], arguments: Namespace) -> bool:
    """Discard or replay `row`; return whether it was done.

    Raises:
        RowChangedError: another command changed it after it was read.

    """
    if arguments.action == "discard":
        await database.writer.transaction(partial(_discard, row=row, why=arguments.reason))
        say(f"{row.id}: discarded")
        return True
    ahead = _YEAR if arguments.clock_ahead else timedelta()
    if row.cabeceras is not None:
        return await replay_message(database, row, unproven=arguments.unproven, ahead=ahead)
    return await _replay(database, row, ahead=ahead)


async def _chosen(database: Database, arguments: Namespace) -> Sequence[int]:
    if arguments.action == "replay" and arguments.gateway is not None:
        return await messages_claiming(database, arguments.gateway)
    if arguments.action == "replay" and arguments.all:
        return await _all_ids(database)
    ids: list[int] = arguments.ids
    return ids


async def _all_ids(database: Database) -> Sequence[int]:
    """Return the ids of all rows that have their bytes, in the order of their arrival."""
    kept = select(CUARENTENA.c.id).where(CUARENTENA.c.motivo.not_like(f"{_DISCARDED}%"))
    async with database.readers.connect() as connection:
        return (await connection.execute(kept.order_by(*IN_ORDER))).scalars().all()


async def _list(database: Database) -> int:
    async with database.readers.connect() as connection:
        for row in await connection.execute(select(CUARENTENA).order_by(CUARENTENA.c.id)):
            moment = row.recibido.isoformat(timespec="seconds")
            origin = row.gateway_id or "no-gateway"
            say(f"{row.id}  {moment}  {origin}  {row.seq}  {len(row.cuerpo)} bytes  {row.motivo}")
    return 0


async def _replay(database: Database, row: Row[Any], *, ahead: timedelta) -> bool:
    """Record the event and delete its row, in one transaction; or print why not."""
    try:
        problem = await database.writer.transaction(partial(_record, row=row, ahead=ahead))
    except DATABASE_ERRORS as error:
        problem = f"the database does not take it: {reason(error)}"
    say(f"{row.id}: recorded" if problem is None else f"{row.id}: stays: {problem}")
    return problem is None


def _record(connection: Connection, row: Row[Any], ahead: timedelta) -> str | None:
    """Record the event of `row` and delete the row; return why not, or None."""
    lock_row(connection, row)
    now = datetime.now(UTC)
    event = read_row(Delivery(row.gateway_id, row.seq, row.cuerpo), now, ahead=ahead)
    if isinstance(event, DeadLetter):
        return event.reason
    order_feedback(event, row.recibido, 0)
    if row.seq < 1:
        return "no gateway's number is known for it"
    stats = write_batch(connection, [event], (), now)
    if not stats["predictions"] + stats["feedback"] + stats["duplicates"]:
        return "its id is recorded with another question or answer"
    connection.execute(delete(CUARENTENA).where(CUARENTENA.c.id == row.id))
    return None


def _discard(connection: Connection, row: Row[Any], why: str) -> None:
    lock_row(connection, row)
    values = {"cuerpo": b"", "motivo": f"{_DISCARDED}{why} (it was: {row.motivo})"}
    connection.execute(update(CUARENTENA).where(CUARENTENA.c.id == row.id).values(values))


def _show(body: bytes) -> None:
    """Write the bytes unchanged to a file or pipe; on a terminal, with control characters escaped."""
    if sys.stdout.isatty():
        text = body.decode(errors="backslashreplace")
        say("".join(char if char.isprintable() else repr(char)[1:-1] for char in text))
    else:
        sys.stdout.buffer.write(body)
