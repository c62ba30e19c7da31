"""What the hits of one failpoint came to."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.waiting import until_now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.support.zygote import Forked, Zygote

_SECONDS = 120


STOPPING = threading.Event()
"""Set when the whole account is given up: every lane of it ends at its next start or death of a process."""


class GivenUpError(Exception):
    """What this lane was at is not wanted any more."""


class NotHitError(Exception):
    """A process did not die at the line where it should have; nothing is proven then."""


@dataclass(slots=True)
class Tally:
    """`answered` counts what must be there in the end, in the words of `place`; times are in seconds.

    `halves` counts states that must never be seen: half a migration, a mixture of two models, an alias without a link.
    """

    failpoint: str
    place: str
    hits: int = 0
    answered: int = 0
    lost: int = 0
    doubled: int = 0
    halves: int = 0
    recoveries: list[float] = field(default_factory=list)
    _died: float | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing was lost, doubled or left half done."""
        return self.hits > 0 and (self.lost, self.doubled, self.halves) == (0, 0, 0)

    def start(
        self,
        zygote: Zygote,
        words: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        armed: str | None = None,
    ) -> Forked:
        """Start a service, armed for the pass that `armed` says, if it does; returns once it listens, or has died."""
        _wanted()
        if armed is not None:
            environment = {**environment, "PREDECIR_FAILPOINT": f"{self.failpoint}:{armed}"}
        process = zygote.start(words, folder, environment)
        until_now(lambda: process.url() is not None or process.code() is not None, seconds=_SECONDS)
        if process.url() is not None:
            self.recovered()
        return process

    def hit(self, process: Forked, *, trace: Path | None = None) -> None:
        """Wait until `process` has killed itself at the failpoint, or strace has, which writes `trace`; count it.

        Raises:
            NotHitError: it lives on, or ended otherwise.

        """
        _wanted()
        try:
            code = process.ended(_SECONDS)
        except TimeoutError:
            raise NotHitError(f"{self.failpoint}, {self.place}: never passed\n{process.errors()}") from None
        self._died = time.monotonic()
        said = process.errors() if trace is None else trace.read_text(errors="replace")
        proof = f'{{"failpoint": "{self.failpoint}", "event": "failpoint_hit"' if trace is None else "killed by SIGKILL"
        if code != -signal.SIGKILL or proof not in said:
            raise NotHitError(f"{self.failpoint}, {self.place}: ended with {code}\n{said}")
        self.hits += 1

    def recovered(self) -> None:
        """Count the time since the last death as a recovery; only the first one after it counts."""
        if self._died is not None:
            self.recoveries.append(time.monotonic() - self._died)
            self._died = None

    def compare(self, expected: Sequence[str], found: Sequence[str]) -> None:
        """Count what is not among the `found`, and what is there twice or was never asked for."""
        self.answered += len(set(expected))
        self.lost += len(set(expected) - set(found))
        self.doubled += len(found) - len(set(found)) + len(set(found) - set(expected))

    def never(self, state: bool) -> None:  # noqa: FBT001 - a sentence: never this
        """Count a state that must not be."""
        self.halves += state


def _wanted() -> None:
    if STOPPING.is_set():
        raise GivenUpError
