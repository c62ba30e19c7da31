"""`python -m services.gateway`: the gateway alone, on its own port."""

from __future__ import annotations

import sys

from services.gateway.app import alone
from services.gateway.settings import GatewaySettings
from shared.hosting import main

if __name__ == "__main__":
    sys.exit(main("gateway", GatewaySettings, alone))
