"""`python -m services.gateway`: the gateway as a service; with `keys`, the API keys of all services."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the service has its own handler

import sys
from argparse import ArgumentParser

from services.gateway import identity, key_admin
from services.gateway.app import alone
from services.gateway.settings import GatewaySettings
from shared.settings import BAD_SETTINGS, SettingsError, read_settings
from shared.web.hosting import main


def _main() -> int:
    parser = ArgumentParser("python -m services.gateway")
    commands = parser.add_subparsers(
        dest="command", help="none: serve; keys: API keys; identity: its id and public key"
    )
    key_admin.add_arguments(commands.add_parser("keys"))
    identity.add_arguments(commands.add_parser("identity"))
    arguments = parser.parse_args()
    if arguments.command is None:
        return main("gateway", GatewaySettings, alone)
    try:
        settings = read_settings(GatewaySettings)
        if arguments.command == "identity":
            return identity.run(settings.outbox_folder, arguments)
        return key_admin.run(settings.keys_file, arguments, settings.keys_mark)
    except SettingsError as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201 - for a person, in one line
        return BAD_SETTINGS


if __name__ == "__main__":
    sys.exit(_main())
