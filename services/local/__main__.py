"""`python -m services.local`: the whole system in one process."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the service has its own handler

import sys

from services.gateway.settings import GatewaySettings
from services.local.app import open_local
from shared.web.hosting import main

if __name__ == "__main__":
    sys.exit(main("local", GatewaySettings, open_local))
