"""`python -m services.recorder accounts`: list the accounts of gateways, and take unsupported numbers out of one."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import URL, Connection, delete, insert

from services.recorder.accounting.outbox_reports import last_seq
from services.recorder.accounting.reconcile import reconcile
from services.recorder.commands import gateway_argument, run_command, say, seq_argument
from services.recorder.db.database import Database, open_database
from services.recorder.db.tables import GATEWAYS, OLVIDADAS
from shared.contracts.transport import OutboxState

NOT_DONE = 1
"""Exit code when nothing is known of a gateway."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the two actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="print a line per gateway: its account, and the number that rows do not support")
    forget = actions.add_parser(
        "forget", help="forget the last report of a gateway, and count its numbers until now no more; rows stay"
    )
    forget.add_argument("gateway", type=gateway_argument, metavar="GATEWAY")
    forget.add_argument(
        "--above",
        type=seq_argument,
        required=True,
        metavar="SEQ",
        help="the last genuine number, which stays in the account with all below; 0 if the gateway itself is false",
    )


def accounts_command(arguments: Namespace, database: Callable[[], URL]) -> int:
    """Run the action of `arguments` on the database; return the exit code."""

    async def run() -> int:
        now = datetime.now(UTC)
        async with open_database(database(), writes=arguments.action == "forget") as opened:
            if arguments.action == "list":
                await _list(opened, now)
            else:
                forgetting = partial(forget_claims, gateway_id=arguments.gateway, above=arguments.above, now=now)
                if not await opened.writer.transaction(forgetting):
                    say(f"{arguments.gateway}: no such gateway; `accounts list` shows all")
                    return NOT_DONE
                say(f"{arguments.gateway}: numbers above {arguments.above} that are recorded by now count no more")
        return 0

    return run_command("accounts", run)


def forget_claims(connection: Connection, *, gateway_id: str, above: int, now: datetime) -> bool:
    """Delete the last report of a gateway, and take its numbers above `above` out of its account: those until `now`.

    Return False if the gateway has neither a report nor a row.
    """
    reports = connection.execute(delete(GATEWAYS).where(GATEWAYS.c.gateway_id == gateway_id)).rowcount
    if not reports and not last_seq(connection, gateway_id):
        return False
    connection.execute(insert(OLVIDADAS).values(gateway_id=gateway_id, despues_de=above, hasta=now))
    return True


async def _list(database: Database, now: datetime) -> None:
    async def no_outboxes() -> list[OutboxState]:
        return []

    found = await reconcile(database.readers, no_outboxes, now)
    for account in found.accounts:
        counts = f"answered {account.answered}, recorded {account.recorded}, missing {account.missing}"
        claim = "" if account.unsupported is None else f", NOT SUPPORTED BY ROWS: {account.unsupported}"
        say(f"{account.gateway_id}  {counts}, quarantined {account.quarantined}{claim}")
    if found.others.gateways:
        say(f"{found.others.gateways} other gateways with {found.others.rows} rows")
