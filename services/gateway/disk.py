"""The disk under the outbox: is there room, and a ballast to throw overboard when there is none.

On a full disk SQLite cannot even delete: a delete is written to the WAL first. The ballast file is given up then, so
that what is recorded elsewhere can leave the outbox; it is laid down again once there is room.
"""

from __future__ import annotations

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
    """Watches the disk of `folder`; `min_free_mb` MiB must be free for answers to be accepted."""

    def __init__(self, folder: Path, *, min_free_mb: int) -> None:
        """Lay down the ballast if there is room for it."""
        self._folder = folder
        self._ballast = folder / "ballast"
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
        self._ballast.unlink(missing_ok=True)
        self._has_room = False
        self._next_look = time.monotonic() + _LOOK_SECONDS

    def _look(self) -> bool:
        if shutil.disk_usage(self._folder).free < self._min_free:
            return False
        return self._ballast.exists() or self._lay_ballast()

    def _lay_ballast(self) -> bool:
        try:
            with self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, _BALLAST_BYTES)
        except OSError:
            self._ballast.unlink(missing_ok=True)
            return False
        return True
