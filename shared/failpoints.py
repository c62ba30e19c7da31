"""Named lines at which a process kills itself, so that tests can hit the moment between two steps.

Each splits something that must not be split: what is before it has happened, what is after it has not. Armed by the
setting PREDECIR_FAILPOINT, for tests alone; otherwise passing one costs a look at an empty dictionary.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Literal, get_args

Failpoint = Literal[
    "outbox.write",  # keys are taken | their answers are in the outbox, and committed with them
    "outbox.written",  # an answer is on disk | given
    "outbox.delete",  # what was handed over is deleted | that is committed
    "relay.handed-over",  # a batch is durable elsewhere | it leaves the outbox
    "broker.publish",  # a message is made | published
    "broker.published",  # a message is confirmed | the rest of its batch is
    "recorder.write",  # a batch is written to the database | committed
    "recorder.committed",  # a batch is committed to the database | acknowledged
    "migration.revision",  # one step of a migration is done | the next, or the commit
    "migration.migrated",  # the tables are migrated | the views are made
    "copy.write",  # a batch is written to the other database | committed
    "copy.committed",  # a batch is in the other database | the next
    "mirror.fetched",  # a version is fetched and verified | on the model store
    "store.copy",  # one file of a version is on the model store | the next
    "store.publish",  # a version is complete on the model store | in its place
    "store.link",  # a new link is made | it replaces the old one
    "model.loaded",  # a new model is loaded | it serves
    "model.swapped",  # a new model serves | the model store knows
    "promotion.recorded",  # a promotion is in the history | the alias is moved
    "promotion.pointed",  # the alias is moved | that is noted
    "promotion.applied",  # that is noted | the links follow
]
"""What is done | what is not, when the process dies there."""

_left: dict[str, int] = {}
"""How often the armed one is still passed alive; empty unless one is armed."""


def failpoint(name: Failpoint) -> None:
    """Kill this process with SIGKILL, if `name` is armed and this is the pass that was asked for."""
    if _left:
        _passed(name)


def parse(text: str) -> tuple[str, int]:
    """Read `NAME`, or `NAME:N` for the N-th pass.

    Raises:
        ValueError: no failpoint has that name, or N is no number from 1.

    """
    name, _, number = text.partition(":")
    if name not in get_args(Failpoint):
        raise ValueError(f"there is no failpoint {name}; shared/failpoints.py lists them")
    if number and not (number.isascii() and number.isdigit() and int(number) > 0):
        raise ValueError("after the colon comes the number of the pass, from 1")
    return name, int(number or 1)


def arm(text: str | None) -> None:
    """Arm the failpoint that a setting asks for, if it does, and warn of it."""
    _left.clear()
    if text is not None:
        name, number = parse(text)
        _left[name] = number - 1
        _say("failpoint_armed", name)


def _passed(name: str) -> None:
    left = _left.get(name)
    if left == 0:
        _say("failpoint_hit", name)
        os.kill(os.getpid(), signal.SIGKILL)
    elif left is not None:
        _left[name] = left - 1


def _say(event: str, name: str) -> None:
    """Write a line as the log has them: at once and by ourselves, since commands that have no log may be armed, too."""
    os.write(2, json.dumps({"failpoint": name, "event": event, "level": "warning"}).encode() + b"\n")
