"""Failpoints: named lines at which a process kills itself, so that a test can stop it between two steps.

The step before the line is done, the step after it is not. The setting PREDECIR_FAILPOINT arms one, for tests only. A
failpoint that is not armed costs one look at an empty dictionary.
"""

import json
import os
import signal
from typing import Literal, get_args

Failpoint = Literal[
    "outbox.write",  # keys are taken | their answers are in the outbox, and committed with them
    "outbox.written",  # an answer is on disk | sent
    "outbox.delete",  # delivered events are deleted | the deletion is committed
    "relay.handed-over",  # a batch is durable elsewhere | it is deleted from the outbox
    "broker.publish",  # a message is made | published
    "broker.published",  # a message is confirmed | the rest of its batch is
    "recorder.write",  # a batch is written to the database | committed
    "recorder.committed",  # a batch is committed to the database | acknowledged
    "migration.revision",  # one step of a migration is done | the next, or the commit
    "migration.migrated",  # the tables are migrated | the views are made
    "copy.write",  # a batch is written to the other database | committed
    "copy.committed",  # a batch is in the other database | the next
    "registry.fetched",  # a version is fetched and checked | in the model store
    "store.copy",  # one file of a version is in the model store | the next
    "store.publish",  # a version is complete in the model store | in its place
    "store.link",  # a new link is made | it replaces the old one
    "model.loaded",  # a new model is loaded | it serves
    "model.swapped",  # a new model serves | the link leads to it
    "promotion.recorded",  # a promotion is in the history | the alias is moved
    "promotion.pointed",  # the alias is moved | the history entry is marked as applied
    "promotion.applied",  # the entry is marked as applied | the links follow
]
"""The last step that is done | the first that is not, when the process dies there."""

_left: dict[str, int] = {}
"""How many more passes the armed failpoint survives; empty unless one is armed."""


def failpoint(name: Failpoint) -> None:
    """Kill this process with SIGKILL if `name` is armed and this is its pass."""
    if _left:
        _passed(name)


def parse(text: str) -> tuple[str, int]:
    """Parse `NAME`, or `NAME:N` for the N-th pass.

    Raises:
        ValueError: no failpoint has that name, or N is not a number from 1.

    """
    name, _, number = text.partition(":")
    if name not in get_args(Failpoint):
        raise ValueError(f"there is no failpoint {name}; shared/failpoints.py lists them")
    if number and not (number.isascii() and number.isdigit() and int(number) > 0):
        raise ValueError("after the colon comes the number of the pass, from 1")
    return name, int(number or 1)


def arm(text: str | None) -> None:
    """Arm the failpoint of a setting, if it names one, and log a warning."""
    _left.clear()
    if text is not None:
        name, number = parse(text)
        _left[name] = number - 1
        _warn("failpoint_armed", name)


def _passed(name: str) -> None:
    left = _left.get(name)
    if left == 0:
        _warn("failpoint_hit", name)
        os.kill(os.getpid(), signal.SIGKILL)
    elif left is not None:
        _left[name] = left - 1


def _warn(event: str, name: str) -> None:
    """Write one line in the log's format, unbuffered: commands without a log can be armed, too."""
    os.write(2, json.dumps({"failpoint": name, "event": event, "level": "warning"}).encode() + b"\n")
