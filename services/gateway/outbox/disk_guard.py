"""The disk under the outbox: is there room, and a ballast to throw overboard when there is none.

On a full disk SQLite cannot even delete: a delete is written to the WAL first. The ballast file is given up then, so
that what is recorded elsewhere can leave the outbox; it is laid down again once there is room.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BALLAST_BYTES = 8 * 1024 * 1024
_LOOK_SECONDS = 0.5
_MIB = 1024 * 1024


class Disk:
    """Watches the disk under `file`; `min_free_mb` MiB must be free for answers to be accepted.

    A disk that cannot be looked at, or a file that is not the one opened at the start, has no room: what would be
    written there would be lost.
    """

    def __init__(self, file: Path, *, min_free_mb: int) -> None:
        """Watch from now on; `file` exists."""
        self._file = file
        self._inode = file.stat().st_ino
        self._ballast = file.with_name("ballast")
        self._min_free = min_free_mb * _MIB
        self._next_look = 0.0
        self._has_room = False

    def has_room(self) -> bool:
        """Whether there is room for answers; looked up twice a second at most."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            self._has_room = self._look()
        return self._has_room

    def failed(self) -> None:
        """A write failed: give up the ballast, and accept nothing until there is room for it again."""
        self._has_room = False
        self._next_look = time.monotonic() + _LOOK_SECONDS
        with contextlib.suppress(OSError):
            self._ballast.unlink(missing_ok=True)

    def _look(self) -> bool:
        try:
            if self._file.stat().st_ino != self._inode or shutil.disk_usage(self._file).free < self._min_free:
                return False
            return self._ballast.exists() or self._lay_ballast()
        except OSError:
            return False

    def _lay_ballast(self) -> bool:
        try:
            with self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, _BALLAST_BYTES)
        except OSError:
            self._ballast.unlink(missing_ok=True)
            return False
        return True
