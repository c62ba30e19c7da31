"""A small disk that can be filled: a tmpfs in a mount namespace, which a separate process keeps open.

Files survive the death of the process that wrote them, as on any disk, but no power cut.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from chaos.programs import UnavailableError

_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A disk mounted at `path` for processes whose command starts with `prefix`; they work in the folder `home`."""

    home: Path
    path: Path
    holder: int

    @property
    def prefix(self) -> tuple[str, ...]:
        """The beginning of the command of a process that is to see this disk."""
        enter = ("nsenter", f"--target={self.holder}", "--user", "--mount", "--preserve-credentials", "--")
        # A process that enters the other namespace starts in its root folder.
        return (*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(self.home))

    def fill(self) -> None:
        """Fill the disk."""
        with open(self._filler, "wb", buffering=0) as file, suppress(OSError):  # noqa: PTH123 - see _filler
            while True:
                file.write(bytes(_CHUNK))

    def free(self) -> None:
        """Free the space again."""
        os.unlink(self._filler)  # noqa: PTH108 - see _filler

    @property
    def _filler(self) -> str:
        # As text: Path would follow the link out of the other namespace.
        return f"/proc/{self.holder}/root{self.path}/filler"


@contextmanager
def small_disk(home: Path, path: Path, *, mib: int) -> Iterator[SmallDisk]:
    """Mount a disk at `path`, for processes that work in `home`; it is removed with all its files at the end."""
    path.mkdir(parents=True)
    script = f'mount -t tmpfs -o size={mib}m none "$0" && echo mounted && exec sleep infinity'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:  # noqa: S603 - our own script
        try:
            assert holder.stdout is not None  # noqa: S101 - it is a pipe
            if not holder.stdout.readline():
                raise UnavailableError("a tmpfs cannot be mounted here; allow user namespaces, or run as root")
            yield SmallDisk(home, path, holder.pid)
        finally:
            holder.kill()  # it only sleeps, and cannot ignore this signal
