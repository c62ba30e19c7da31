"""Logging, the same in every service. Event names are stable snake_case; patient values are never logged."""

import contextlib
import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog


def configure_logging(level: str, *, service: str) -> None:
    """Write structured logs to standard error: JSON lines, or readable lines on a terminal."""
    on_terminal = sys.stderr.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            lambda _logger, _method, event: {**event, "service": service},
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _StandardError(sys.stderr),
    )
    # Libraries that log through the standard library: warnings and errors only.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


def write_lines(events: Sequence[dict[str, Any]]) -> None:
    """Write log lines in one call, without the processors and the level of structlog, for very frequent events.

    `events` have all their fields, also those that `configure_logging` adds to others.
    """
    if sys.stderr.isatty():
        render = structlog.dev.ConsoleRenderer()
        lines = [str(render(None, event["level"], dict(event))) for event in events]
    else:
        lines = [orjson.dumps(event).decode() for event in events]
    _StandardError(sys.stderr).info("\n".join(lines))


def described(error: BaseException) -> str:
    """Return the type and place of an error without its message, which may hold a patient's values."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


class _StandardError(structlog.PrintLogger):
    """Drops a line that cannot be written: a log on a full disk must not stop the process."""

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError):
            super().msg(message)

    debug = info = warning = error = critical = msg
