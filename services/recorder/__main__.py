"""`python -m services.recorder`: the service, and the commands on its database."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the service has its own handler

import argparse
import sys
from collections.abc import Callable

from sqlalchemy.engine import URL

from services.recorder import quarantine
from services.recorder.accounting import command as accounts
from services.recorder.analysts.time_zone import clinic_zone
from services.recorder.app import alone
from services.recorder.commands import View, fail
from services.recorder.enrolment import command as enrolment
from services.recorder.migrate_command import migrate_command
from services.recorder.settings import RecorderSettings
from services.recorder.transfer.command import transfer_command
from shared.failpoints import arm
from shared.patient import load_patient
from shared.settings import BAD_SETTINGS, ProcessSettings, SettingsError, read_settings
from shared.telemetry import configure_logging
from shared.web.hosting import main


def run(arguments: list[str]) -> int:
    """Run the command of `arguments`, or the service if there is none; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.recorder", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser(
        "migrate",
        help="upgrade the tables of DATABASE_URL and the analysts' view; the service does so at its start, too",
    )
    transfer = commands.add_parser("transfer", help="copy all tables into another database, and verify the copy")
    default = "; by default DATABASE_URL, so that no password is on the command line"
    transfer.add_argument("--from", dest="source", metavar="URL", help=f"the database to copy{default}")
    transfer.add_argument("--to", dest="target", metavar="URL", help=f"the database to fill{default}")
    quarantine.add_arguments(commands.add_parser("quarantine", help="deliveries that could not be recorded"))
    enrolment.add_arguments(commands.add_parser("gateways", help="the gateways whose messages are recorded"))
    accounts.add_arguments(commands.add_parser("accounts", help="the accounts of gateways, and false claims in them"))
    options = parser.parse_args(arguments)
    if options.command is None:
        return main("recorder", RecorderSettings, alone)
    configure_logging("warning", service="recorder")
    try:
        arm(read_settings(ProcessSettings).failpoint)
    except SettingsError as error:
        return fail("recorder", str(error), BAD_SETTINGS)
    run_command: dict[str, Callable[[], int]] = {
        "migrate": lambda: migrate_command(_database, _view),
        "transfer": lambda: transfer_command(options.source, options.target, _database, _view),
        "quarantine": lambda: quarantine.quarantine_command(options, _database),
        "gateways": lambda: enrolment.gateways_command(options, _database),
        "accounts": lambda: accounts.accounts_command(options, _database),
    }
    return run_command[options.command]()


def _database(url: str | None = None) -> URL:
    return read_settings(RecorderSettings).database(url)


def _view() -> View:
    settings = read_settings(RecorderSettings)
    return load_patient(settings.predecir_paciente), clinic_zone(settings.clinic_time_zone)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
