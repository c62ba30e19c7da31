"""`python -m services.local`: the whole system in one process."""

import sys

from services.gateway.settings import GatewaySettings
from services.local.app import open_local
from shared.hosting import main

sys.exit(main("local", GatewaySettings, open_local))
