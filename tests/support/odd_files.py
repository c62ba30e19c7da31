"""Files that a reader must not read: a pipe, an endless device, a folder, and one far larger than allowed."""

import os
from collections.abc import Callable
from pathlib import Path

FAR_ABOVE = 1 << 40
"""Bytes of a large file, all of it a hole: above every bound of ours, and above the machine's memory."""


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(FAR_ABOVE)


ODD_FILES: tuple[Callable[[Path], None], ...] = (pipe, endless, folder, huge)


def replace_by(odd: Callable[[Path], None], path: Path) -> None:
    """Put the file that `odd` makes in the place of `path`."""
    path.unlink(missing_ok=True)
    odd(path)
