"""Results of the hits of one failpoint."""

import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.waiting import until_now
from tests.support.zygote import Forked, Zygote

_SECONDS = 120


STOPPING = threading.Event()
"""Set to abort the run: every lane ends at its next start or death of a process."""


class GivenUpError(Exception):
    """Raised in a lane when the run is aborted."""


class NotHitError(Exception):
    """Raised if a process did not die at its failpoint: the run proves nothing then."""


@dataclass(slots=True)
class Tally:
    """Counts of one failpoint. `answered` counts what must exist in the end, as `place` names it; times are in seconds.

    `halves` counts states that must never occur: half a migration, a mixture of two models, an alias without a link.
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
        """True if nothing was lost, doubled or left half done."""
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
        """Start a service, armed for pass `armed` if given; return when it listens or has died."""
        _wanted()
        if armed is not None:
            environment = {**environment, "PREDECIR_FAILPOINT": f"{self.failpoint}:{armed}"}
        process = zygote.start(words, folder, environment)
        until_now(lambda: process.url() is not None or process.code() is not None, seconds=_SECONDS)
        if process.url() is not None:
            self.recovered()
        return process

    def hit(self, process: Forked, *, trace: Path | None = None) -> None:
        """Wait until `process` was killed at the failpoint, by itself or by strace, which writes `trace`; count it.

        Raises:
            NotHitError: it still runs, or ended otherwise.

        """
        _wanted()
        try:
            code = process.ended(_SECONDS)
        except TimeoutError:
            raise NotHitError(f"{self.failpoint}, {self.place}: never passed\n{process.errors()}") from None
        self._died = time.monotonic()
        output = process.errors() if trace is None else trace.read_text(errors="replace")
        proof = f'{{"failpoint": "{self.failpoint}", "event": "failpoint_hit"' if trace is None else "killed by SIGKILL"
        if code != -signal.SIGKILL or proof not in output:
            raise NotHitError(f"{self.failpoint}, {self.place}: ended with {code}\n{output}")
        self.hits += 1

    def recovered(self) -> None:
        """Count the time since the last death as a recovery; later calls before the next death have no effect."""
        if self._died is not None:
            self.recoveries.append(time.monotonic() - self._died)
            self._died = None

    def compare(self, expected: Sequence[str], recorded: Sequence[str]) -> None:
        """Count the `expected` ids that are missing from `recorded`, and the doubled or unexpected ids there."""
        self.answered += len(set(expected))
        self.lost += len(set(expected) - set(recorded))
        self.doubled += len(recorded) - len(set(recorded)) + len(set(recorded) - set(expected))

    def never(self, state: bool) -> None:  # noqa: FBT001 - a sentence: never this
        """Count a half-done state."""
        self.halves += state


def _wanted() -> None:
    if STOPPING.is_set():
        raise GivenUpError
