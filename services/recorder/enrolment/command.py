"""`python -m services.recorder gateways`: list, add and revoke the gateways whose messages are recorded."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import URL

from services.recorder.commands import gateway_argument, run_command, say
from services.recorder.db.database import Database, open_database
from services.recorder.enrolment.keys import BY_OPERATOR, EnrolmentError, enrol, read_keys, revoke
from shared.contracts.gateway_proof import ProofError, gateway_id_of, read_public_key

NOT_DONE = 1
"""Exit code when a gateway cannot be enrolled or revoked."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the three actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="print a line per gateway: id, public key, how and when enrolled, when revoked")
    add = actions.add_parser("add", help="enrol a gateway, whatever RECORDER_MAX_GATEWAYS")
    add.add_argument("public_key", metavar="PUBLIC-KEY", help="as `python -m services.gateway identity` prints it")
    remove = actions.add_parser("revoke", help="believe nothing of a gateway any more, for good")
    remove.add_argument("gateway", type=gateway_argument, metavar="GATEWAY", help="its id, as shown by list")


def gateways_command(arguments: Namespace, database: Callable[[], URL]) -> int:
    """Run the action of `arguments` on the database; return the exit code."""

    async def run() -> int:
        async with open_database(database(), writes=arguments.action != "list") as opened:
            try:
                return await _act(opened, arguments)
            except (EnrolmentError, ProofError) as error:
                say(f"gateways: {error}")
                return NOT_DONE

    return run_command("gateways", run)


async def _act(database: Database, arguments: Namespace) -> int:
    now = datetime.now(UTC)
    match arguments.action:
        case "list":
            await _list(database)
        case "add":
            key = read_public_key(arguments.public_key)
            new = await database.writer.transaction(partial(enrol, public_key=key, origin=BY_OPERATOR, now=now))
            say(f"{gateway_id_of(key)}: {'enrolled' if new else 'was enrolled already'}")
        case _:
            await database.writer.transaction(partial(revoke, gateway_id=arguments.gateway, now=now))
            say(f"{arguments.gateway}: revoked")
    return 0


async def _list(database: Database) -> None:
    for key in await read_keys(database.readers):
        revoked = f"revoked {key.revoked:%Y-%m-%dT%H:%M:%SZ}" if key.revoked else "believed"
        say(f"{key.gateway_id}  {key.public_key}  {key.origin}  {key.enrolled:%Y-%m-%dT%H:%M:%SZ}  {revoked}")
