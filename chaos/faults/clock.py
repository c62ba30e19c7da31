"""A clock that can be set: libfaketime, for the time of day alone, as an operator or NTP would set it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of whoever runs with `environment`; a step is seen within a second."""

    file: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """What the process needs.

        Raises:
            RuntimeError: libfaketime is not installed.

        """
        found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        if found is None:
            raise RuntimeError("chaos: no libfaketime: install Debian's package `libfaketime`")
        return {
            "LD_PRELOAD": str(found),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a step leaves it alone on every system
            "NO_FAKE_STAT": "1",
        }

    def set(self, seconds: int) -> None:
        """Let it go `seconds` before the true time; negative: behind it."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.file)
