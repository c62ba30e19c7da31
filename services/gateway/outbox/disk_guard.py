"""Free space under the outbox, and a reserve file that is deleted when there is none.

On a full disk SQLite cannot even delete: a delete is written to the WAL first. Deleting the reserve file makes room for
that, so that recorded events can leave the outbox. It is written again once there is room.
"""

import contextlib
import os
import shutil
import time
from pathlib import Path

_RESERVE_BYTES = 8 * 1024 * 1024
_CHECK_SECONDS = 0.5
_MIB = 1024 * 1024


class DiskGuard:
    """Checks the disk under `file`: answers are accepted while `min_free_mb` MiB are free.

    There is no room if the disk cannot be read, or if `file` was replaced or cut off since the start: writes would be
    lost. Then `failure` is the reason; it is None if the disk is full.
    """

    def __init__(self, file: Path, *, min_free_mb: int) -> None:
        """Check the disk under `file`, which exists."""
        self._file = file
        self._inode, self._size = file.stat().st_ino, file.stat().st_size
        self._reserve = file.with_name("reserve")
        self._min_free = min_free_mb * _MIB
        self._next_check = 0.0
        self._has_room = False
        self.failure: str | None = None

    def has_room(self) -> bool:
        """Return whether there is room for answers; the disk is checked twice a second at most."""
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + _CHECK_SECONDS
            self._has_room = self._check()
        return self._has_room

    def failed(self, failure: str | None) -> None:
        """Handle a failed write: delete the reserve file, and report no room until it can be written again.

        `failure` is the reason, or None if the disk is full.
        """
        self._has_room, self.failure = False, failure
        self._next_check = time.monotonic() + _CHECK_SECONDS
        with contextlib.suppress(OSError):
            self._reserve.unlink(missing_ok=True)

    def _check(self) -> bool:
        try:
            self.failure = self._replaced()
            if self.failure is not None or shutil.disk_usage(self._file).free < self._min_free:
                return False
            return self._reserve.exists() or self._write_reserve()
        except OSError as error:
            self.failure = f"{self._file}: {error.strerror}"
            return False

    def _replaced(self) -> str | None:
        """Return the reason if the open file is no longer whole at its path. Its events are still delivered."""
        with contextlib.suppress(FileNotFoundError):
            status = self._file.stat()
            if status.st_size < self._size:  # SQLite never shortens it: we use no VACUUM
                return f"{self._file} was emptied or cut off: stop the gateway in order, once its answers are recorded"
            if status.st_ino == self._inode:
                self._size = status.st_size
                return None
        return f"{self._file} was moved, deleted or replaced: put it back, or restart once its answers are recorded"

    def _write_reserve(self) -> bool:
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
        except OSError:
            self._reserve.unlink(missing_ok=True)
            return False
        return True
