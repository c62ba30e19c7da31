"""Identity of a file: its inode and the moment of its creation, which a copy does not share."""

import ctypes
import os
import struct
from pathlib import Path

_AT_FDCWD = -100
_BIRTH = 0x800
"""`STATX_BTIME`: asks for the time of creation, and tells whether the file system has it."""
_STATX_BYTES = 256
_MASK_AT, _BIRTH_AT = 0, 80


def file_identity(path: Path) -> str:
    """Return what identifies the file at `path` on its file system, before and after a rename or a change of content.

    A file that is written over in place keeps its identity, and so do all files of a disk that is rolled back. Without
    a time of creation (NFS), it is the inode alone, whose number a later file may get.

    Raises:
        OSError: there is no such file.

    """
    return f"{path.stat().st_ino}:{_birth(path)}"


def _birth(path: Path) -> str:
    """Return seconds and nanoseconds of the creation, which Python's own `stat` lacks on Linux; empty if unknown."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    try:
        failed = ctypes.CDLL(None).statx(_AT_FDCWD, os.fsencode(path), 0, _BIRTH, buffer)
    except AttributeError:  # a C library without it
        return ""
    (mask,) = struct.unpack_from("=I", buffer, _MASK_AT)
    if failed or not mask & _BIRTH:
        return ""
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, _BIRTH_AT)
    return f"{seconds}.{nanoseconds:09}"
