"""A clock that can be set: libfaketime, for wall-clock time only, as an operator or NTP sets it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chaos.programs import UnavailableError


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of processes that run with `environment`; they see a step within a second."""

    file: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of a process that uses this clock.

        Raises:
            UnavailableError: libfaketime is not installed.

        """
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        if library is None:
            raise UnavailableError("no libfaketime: install Debian's package `libfaketime`")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a step never changes it
            "NO_FAKE_STAT": "1",
        }

    def set(self, seconds: int) -> None:
        """Set the clock `seconds` ahead of the true time; negative: behind it."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.file)
