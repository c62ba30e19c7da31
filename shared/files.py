"""Files: bounded reads, atomic replacement that survives a crash, creation by one process only, locks, versions."""

import errno
import fcntl
import math
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

_LOCK_POLL_SECONDS = 0.05


class FileTooLargeError(OSError):
    """A file is larger than it may be; `strerror` has the limit."""


def open_regular(path: Path) -> BufferedReader:
    """Open `path`, or the file that it links to, for reading. A pipe would block a reader, and a device has no end.

    Raises:
        OSError: it cannot be read, or is no regular file.

    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_regular(path: Path, most: int) -> bytes:
    """Return the content of the regular file `path`; its size is compared before it is read.

    Raises:
        FileTooLargeError: it has more than `most` bytes, or grows meanwhile.
        OSError: see `open_regular`.

    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise FileTooLargeError(errno.EFBIG, f"larger than the {most} bytes that it may have", str(path))
        content = file.read(size + 1)
    if len(content) > size:
        raise FileTooLargeError(errno.EFBIG, "grows while it is read", str(path))
    return content


def write_synced(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a new file and fsync it; its folder is not synced. For files in a folder that no reader sees yet.

    Raises:
        OSError: the file exists, or the disk rejects it.

    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes, *, mode: int = 0o666, folder_owner: bool = False) -> None:
    """Write `path` atomically and durably: a reader, also after a crash, sees the old content or the new one.

    With `folder_owner`, a process that runs as root changes the file's owner to that of its folder.

    Raises:
        OSError: the disk rejects it; the old content stays.

    """
    with _draft(path, content, mode) as draft:
        if folder_owner and os.geteuid() == 0:
            owner = path.parent.stat()
            os.chown(draft, owner.st_uid, owner.st_gid)
        draft.replace(path)
        sync_folder(path.parent)


def create_once(path: Path, content: bytes, *, mode: int = 0o600) -> bool:
    """Create `path` durably unless it exists; return whether this call created it. Of several processes one does.

    Raises:
        OSError: the disk rejects it.

    """
    with _draft(path, content, mode) as draft:
        try:
            os.link(draft, path)  # unlike a rename, a link never replaces an existing file
        except FileExistsError:
            return False
        sync_folder(path.parent)
        return True


def file_version(path: Path) -> tuple[int, ...]:
    """Return a value that changes with the file: device, inode, time and size; empty if there is no such file.

    The first two identify the file: they stay as long as the path leads to the same one.
    """
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def make_private_folder(folder: Path) -> None:
    """Create `folder` and its missing parents, open to their owner only. As root, each gets the owner of its parent.

    Raises:
        OSError: it cannot be created.

    """
    if folder.exists():
        return
    make_private_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:  # services do not run as root, and must be able to use it
        owner = folder.parent.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: fsync of a file does not cover its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, seconds: float = math.inf, mode: int = 0o666) -> Iterator[int]:
    """Lock `path` exclusively meanwhile: a folder or a file, which is created if it is missing; yields its descriptor.

    The kernel releases the lock when the process ends. A stopped process keeps it, so waits can be bounded.

    Raises:
        TimeoutError: another process still holds the lock after `seconds`; 0 does not wait.
        OSError: `path` cannot be opened.

    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags, mode)
    try:
        _lock(descriptor, seconds)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _draft(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        write_synced(draft, content, mode=mode)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _lock(descriptor: int, seconds: float) -> None:
    if math.isinf(seconds):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT, f"another process has been writing there for {seconds:g} s"
                ) from None
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return
