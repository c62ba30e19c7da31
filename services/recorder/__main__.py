"""`python -m services.recorder`: the read API alone, on its own port."""

from __future__ import annotations

import sys

from services.recorder.app import alone
from services.recorder.settings import RecorderSettings
from shared.hosting import main

if __name__ == "__main__":
    sys.exit(main("recorder", RecorderSettings, alone))
