"""`python -m services.recorder`: the service; with a command, a tool on its database."""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the service has its own handler

import argparse
import sys

from services.recorder import quarantine
from services.recorder.app import alone
from services.recorder.settings import RecorderSettings
from services.recorder.transfer.command import migrate_command
from shared.failpoints import arm
from shared.settings import BAD_SETTINGS, ProcessSettings, SettingsError, read_settings
from shared.web.hosting import main


def run(arguments: list[str]) -> int:
    """Serve, or do what `arguments` ask for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.recorder", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    migrate = commands.add_parser(
        "migrate", help="copy all tables into another database, and prove that they are equal"
    )
    left_out = "; left out, it is DATABASE_URL, so that no password is on the command line"
    migrate.add_argument("--from", dest="source", metavar="URL", help=f"the database to copy{left_out}")
    migrate.add_argument("--to", dest="target", metavar="URL", help=f"where to{left_out}")
    quarantine.add_arguments(
        commands.add_parser("quarantine", help="what could not be recorded and waits for a person")
    )
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        return main("recorder", RecorderSettings, alone)
    try:
        arm(read_settings(ProcessSettings).failpoint)
    except SettingsError as error:
        print(f"recorder: {error}", file=sys.stderr)  # noqa: T201 - a person reads this, in one line
        return BAD_SETTINGS
    if chosen.command == "migrate":
        return migrate_command(chosen.source, chosen.target, _database_url)
    return quarantine.quarantine_command(chosen, _database_url)


def _database_url() -> str:
    return read_settings(RecorderSettings).database_url.get_secret_value()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
