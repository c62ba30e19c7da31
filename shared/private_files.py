"""Files that only their owner may use: the folder `PREDECIR_VAR`, the patients' files in it, and keys.

Processes of ours run under `UMASK`. `restrict` corrects files of before, or of a program that runs under another umask.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

UMASK = 0o077
"""New files and folders are for their owner only."""
_OTHERS = 0o077
_FOLDERS = frozenset({"dvc", "gateway", "keys", "mlartifacts", "models", "pipeline", "trigger"})
_FILES = ("mlflow.db", "local.lock")
"""Beginnings of names. Other folders have rights of their own, such as `compose`, whose files containers read."""
_DVC_CACHE = Path("dvc/cache")
"""DVC sets the mode of an object, 0444, to mark that it was verified. The folders around it are ours."""


def restrict(var: Path, *files: Path) -> int:
    """Remove the rights of other users from `var`, our files and folders in it, and `files`; return how many had some.

    Links are not followed. Files of another owner, those on a read-only file system, and a folder that all users share,
    such as /tmp, stay as they are.
    """
    top = var.resolve()
    return sum(_restrict(path.parent, path.name) for path in (top, *files)) + sum(_restrict_content(top))


def _restrict_content(top: Path) -> Iterator[bool]:
    with suppress(OSError):  # there is no such folder yet
        for root, folders, files, descriptor in os.fwalk(top):
            place = Path(root).relative_to(top)
            if place == Path():
                folders[:] = _FOLDERS.intersection(folders)
                files[:] = [name for name in files if name.startswith(_FILES)]
            elif place.is_relative_to(_DVC_CACHE):
                files.clear()
            for name in (*folders, *files):
                yield _restrict(descriptor, name)


def _restrict(folder: Path | int, name: str) -> bool:
    """Restrict one file or folder; return whether other users had rights."""
    with suppress(OSError):  # it is gone, has another owner, or cannot be changed
        at = folder if isinstance(folder, int) else None
        path = name if isinstance(folder, int) else folder / name
        mode = os.stat(path, dir_fd=at, follow_symlinks=False).st_mode
        if mode & _OTHERS and not mode & stat.S_ISVTX and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            # A descriptor, so that nobody can put a link to another file in its place meanwhile.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
            try:
                os.fchmod(descriptor, stat.S_IMODE(mode) & ~_OTHERS)
            finally:
                os.close(descriptor)
            return True
    return False
