"""Running a command: progress lines, one line for the summary or the error, and the exit code."""

import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.artifacts.errors import BundleError
from shared.artifacts.store import ModelStoreError
from shared.failpoints import arm
from shared.patient import PatientClassError
from shared.settings import BAD_SETTINGS, ProcessSettings, SettingsError, read_settings
from training.errors import RegistryError, TrainingError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and SIGINT, as in shells."""
_HEARTBEAT_SECONDS = 8
"""Below ten seconds by what a process needs to start."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_line_printed = threading.Event()


def plain(text: str) -> str:
    """Return `text` without control characters, with which a registry's text could forge lines of a terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def log_line(name: str, text: str) -> None:
    """Print one line of progress of stage or command `name`."""
    text = "\n".join(map(plain, text.split("\n")))
    print(f"{name:<9} {text}", flush=True)  # noqa: T201 - the pipeline's output for people
    _line_printed.set()


@contextmanager
def heartbeat(
    name: str, seconds: float = _HEARTBEAT_SECONDS, *, pause: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Print that `name` is running whenever this process has printed no line for `seconds`, except during a `pause`."""
    started, ended = time.perf_counter(), threading.Event()

    def beat() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the main thread takes Ctrl-C
        while not ended.is_set():
            if not _line_printed.wait(seconds) and not pause():
                log_line(name, f"running for {time.perf_counter() - started:.0f} s")
            _line_printed.clear()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        _line_printed.set()
        thread.join()


def run(name: str, work: Callable[[], str]) -> int:
    """Run `work` as command `name` and print the summary that it returns, unless empty; return the exit code."""
    started = time.perf_counter()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # `pipeline` blocks it while modules are imported
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
        log_line(name, f"{summary} ({time.perf_counter() - started:.1f} s)")
    return 0


def _failed(name: str, error: Exception | str, code: int) -> int:
    """Print each line of `error`, which is one problem; return the exit code."""
    for line in str(error).splitlines() or [""]:
        print(f"{name}: {plain(line)}", file=sys.stderr, flush=True)  # noqa: T201 - the command's error for people
    return code
