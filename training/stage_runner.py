"""How a stage runs: its summary on one line, its failure on one line, its exit code."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

from shared.artifacts.errors import BundleError
from shared.artifacts.store import ModelStoreError
from shared.failpoints import arm
from shared.patient import PatientClassError
from shared.settings import BAD_SETTINGS, ProcessSettings, SettingsError, read_settings
from training.errors import RegistryError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and SIGINT, as shells have it."""


def say(name: str, text: str) -> None:
    """Tell whoever watches what stage `name` is doing."""
    print(f"{name:<9} {text}", flush=True)  # noqa: T201 - the pipeline's one output


def run(name: str, work: Callable[[], str]) -> int:
    """Run `work`, which returns its summary (empty: none is shown), as stage `name`; returns the exit code."""
    started = time.perf_counter()
    try:
        signal.pthread_sigmask(
            signal.SIG_UNBLOCK, {signal.SIGINT}
        )  # what the pipeline holds back while we are imported
        arm(read_settings(ProcessSettings).failpoint)
        summary = work()
    except TrainingError as error:
        return _failed(name, error, error.exit_code)
    except (PatientClassError, SettingsError) as error:
        return _failed(name, error, BAD_SETTINGS)
    except (ModelStoreError, BundleError) as error:
        return _failed(name, error, RegistryError.exit_code)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _failed(name, f"{place}{error.strerror or error}", RegistryError.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    if summary:
        say(name, f"{summary} ({time.perf_counter() - started:.1f} s)")
    return 0


def _failed(name: str, error: Exception | str, code: int) -> int:
    print(f"{name}: {error}", file=sys.stderr, flush=True)  # noqa: T201 - a person reads this, in one line
    return code
