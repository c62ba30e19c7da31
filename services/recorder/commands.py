"""Shared code of the commands of `python -m services.recorder`: output, and the exit codes of errors."""

import asyncio
import re
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Coroutine
from typing import Any
from zoneinfo import ZoneInfo

from services.recorder.analysts.grants import serve_analysts
from services.recorder.analysts.views import view_name
from services.recorder.db.database import DATABASE_ERRORS, Database, reason
from shared.contracts.event_batches import GATEWAY_ID
from shared.patient import Patient, PatientClassError
from shared.settings import BAD_SETTINGS, SettingsError
from shared.web.hosting import UNAVAILABLE, StartError

View = tuple[type[Patient], ZoneInfo]
"""The patient class of the analysts' view, and the zone of its local day."""


def run_command(name: str, command: Callable[[], Coroutine[Any, Any, int]], *, advice: str = "") -> int:
    """Run `command` and return its exit code.

    An error becomes one line: 78 for a wrong setting or patient class, 69 for a database that cannot be used; the line
    of a database that fails in between ends with `advice`.
    """
    try:
        return asyncio.run(command())
    except (SettingsError, PatientClassError) as error:
        return fail(name, str(error), BAD_SETTINGS)
    except StartError as error:
        return fail(name, str(error), UNAVAILABLE)
    except DATABASE_ERRORS as error:
        return fail(name, f"the database cannot be used: {reason(error)}{advice}", UNAVAILABLE)


async def refresh_analysts_view(database: Database, view: View) -> None:
    """Create or update the analysts' view and dictionary in `database`, and print whether the view is there."""
    done = await serve_analysts(database.writer, *view)
    state = "up to date" if done else "not updated; the line above has the reason, and the recorder tries at its start"
    say(f"view {view_name(view[0])}: {state}")


def row_argument(text: str) -> int:
    """Return the argument as the id of a row; see `_number`."""
    return _number(text, least=1)


def seq_argument(text: str) -> int:
    """Return the argument as a gateway's number, or 0; see `_number`."""
    return _number(text, least=0)


def _number(text: str, *, least: int) -> int:
    """Return the argument as a whole number from `least` that a column can hold.

    Raises:
        ArgumentTypeError: it is none; the message is printed with the usage.

    """
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < least:
        raise ArgumentTypeError(f"not a whole number from {least}: {text!r}")
    return int(text)


def gateway_argument(text: str) -> str:
    """Return the argument as the id of a gateway.

    Raises:
        ArgumentTypeError: no gateway has such an id.

    """
    if not re.fullmatch(GATEWAY_ID, text):
        raise ArgumentTypeError(f"not the id of a gateway: {text!r}")
    return text


def line_argument(text: str) -> str:
    """Return the argument as a text for a line of a list.

    Raises:
        ArgumentTypeError: it is empty, or has control characters.

    """
    if not text.strip() or not text.isprintable():
        raise ArgumentTypeError("not a line of text")
    return text


def say(line: str) -> None:
    """Print a line of the command's result."""
    print(line)  # noqa: T201 - a person reads this


def fail(name: str, line: str, code: int) -> int:
    """Print why the command `name` fails, and return its exit code."""
    print(f"{name}: {line}", file=sys.stderr)  # noqa: T201 - a person reads this
    return code
