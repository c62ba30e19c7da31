"""`python -m services.inference`: the inference service as a separate process."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the service installs its own handler

import sys

from services.inference.app import alone
from services.inference.settings import InferenceSettings
from shared.web.hosting import main

if __name__ == "__main__":
    sys.exit(main("inference", InferenceSettings, alone))
