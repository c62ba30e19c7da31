"""The recorder's SQLite file: the lock against a second writer, and the check that its path still leads to it.

SQLite opens the WAL by its path and replays it into any file beside it, because nothing in a WAL names its database. So
a file that was replaced while it was open, or after a kill, would become a mixture of two databases. SQLite itself
notices only when it closes a file that was moved.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path

import structlog

from shared.files import file_version, locked

_NEWEST = "SELECT id FROM predicciones ORDER BY rowid DESC LIMIT 1"
_RECORD_BYTES = 80
_QUIET_NANOSECONDS = 1_000_000_000
_log = structlog.get_logger()


class FileChangedError(OSError):
    """The path of the database does not lead to the file that is open; the message is one line with the remedy."""


class Change(Enum):
    """A change of an open file by another program."""

    NONE = auto()
    GONE = auto()
    """There is no file at the path."""
    REPLACED = auto()
    """Another file is at the path."""
    COMPANIONS = auto()
    """The WAL or its index was removed or replaced beside the file."""
    CONTENT = auto()
    """Another program wrote into the file, as `cp` does and as sqlite3 does in a checkpoint."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The open file: its `file_version`, and the paths of its WAL and the WAL's index, and what identifies them."""

    file: tuple[int, ...]
    paths: tuple[Path, ...]
    companions: tuple[tuple[int, ...], ...]


class SqliteFile:
    """The file at `path`, its companions `-wal` and `-shm`, and `-lock`.

    The lock file holds the version of the database file as its writer last left it. After a kill it proves without
    reading the file that the WAL belongs to it.
    """

    def __init__(self, path: Path) -> None:
        """Describe the file at `path`, which need not exist; a link is followed."""
        self.path = path.absolute()
        self.in_use = False
        """Readers may use it; false while another file is opened."""
        self._known: _Known | None = None
        self._lock = ExitStack()
        self._lock_file: int | None = None
        self._rejected: tuple[tuple[int, ...], ...] = ()

    @property
    def uri(self) -> str:
        """Its SQLite URI, without options."""
        return self.path.as_uri()

    @property
    def locked(self) -> bool:
        """True if this process has the lock, and may write."""
        return self._lock_file is not None

    def lock(self) -> bool:
        """Lock the file against other writers until `unlock`; return whether no other process has the lock.

        Raises:
            OSError: the lock file cannot be created.

        """
        try:
            self._lock_file = self._lock.enter_context(locked(self._companion("lock"), seconds=0, mode=0o600))
        except TimeoutError:
            return False
        return True

    def keep_lock(self) -> bool:
        """Lock again if the lock file was deleted, or if a link at the path leads elsewhere now.

        Return whether this process has the lock.

        Raises:
            OSError: the lock file cannot be created.

        """
        if self._lock_file is not None:
            status = os.fstat(self._lock_file)
            if (status.st_dev, status.st_ino) == file_version(self._companion("lock"))[:2]:
                return True
        self.unlock()
        has_lock = self.lock()
        self._write_record()
        return has_lock

    def unlock(self) -> None:
        """Release the lock, if this process has it."""
        self._lock_file = None
        self._lock.close()

    def change(self) -> Change:
        """Return what happened to the file since `adopt`."""
        if self._known is None:
            return Change.NONE
        version = file_version(self.path)
        if not version:
            return Change.GONE
        if version[:2] != self._known.file[:2]:
            return Change.REPLACED
        if _identities(self._known.paths) != self._known.companions:
            return Change.COMPANIONS
        return Change.NONE if version == self._known.file else Change.CONTENT

    def check(self) -> None:
        """Raise if anything happened to the file.

        Raises:
            FileChangedError: the path does not lead to the open file, or another program wrote into it.

        """
        change = self.change()
        if change is not Change.NONE:
            raise self.changed(change)

    def check_reading(self) -> None:
        """Raise if readers would read another file than the one at the path.

        Raises:
            FileChangedError: they would.

        """
        if self._known is not None and (not self.in_use or self.change() in {Change.GONE, Change.REPLACED}):
            raise self.changed(Change.REPLACED)

    def is_being_written(self) -> bool:
        """Return whether the last write into the file at the path was just now: a copy into it may be under way."""
        version = file_version(self.path)
        return bool(version) and abs(time.time_ns() - version[2]) < _QUIET_NANOSECONDS

    def locked_by_another(self) -> FileChangedError:
        """Return the error for a file that another process has locked."""
        return FileChangedError(f"another process has {self.path} open; stop it first")

    def changed(self, change: Change) -> FileChangedError:
        """Return the error that describes `change`."""
        if change is Change.GONE:
            remedy = f"put it back; to begin an empty database, stop, move {self.path.name}-wal away, and start"
            return FileChangedError(f"{self.path} was moved or deleted while in use; {remedy}")
        return FileChangedError(f"{self.path} was replaced or written by another program while in use; it is reopened")

    def adopt(self, opened: tuple[int, ...]) -> None:
        """Watch the file and its companions from now on; `opened` is the `file_version` before it was opened.

        Raises:
            FileChangedError: the path leads to another file already.

        """
        version = file_version(self.path)
        if version[:2] != opened[:2]:
            raise self.changed(Change.REPLACED)
        paths = self._companions()
        self._known = _Known(version, paths, _identities(paths))
        self._write_record()

    def written(self) -> None:
        """Note the file's version after a checkpoint of this process.

        Raises:
            FileChangedError: the path does not lead to the file any more.

        """
        change = self.change()
        if change is Change.CONTENT and self._known is not None:
            self._known = replace(self._known, file=file_version(self.path))
            self._write_record()
        elif change is not Change.NONE:
            raise self.changed(change)

    def settle(self) -> None:
        """Check that file and WAL at the path are one database, before they are opened for writing.

        A WAL that this process left beside another file is removed.

        Raises:
            FileChangedError: they are not, or the file is damaged.
            sqlite3.Error: they cannot be read now.

        """
        if self._known is None and self._proven():
            return
        versions = (file_version(self.path), file_version(self._companion("wal")))
        if versions == self._rejected:  # the check of a large file takes seconds
            raise self._mixed()
        if not _size(self.path) and _size(self._companion("wal")):
            whole = False  # SQLite would delete the WAL
        else:
            whole = not _size(self.path) or self._is_whole()
        if not whole and self._left_wal() and (not _size(self.path) or _intact(self.uri, "immutable=1")):
            _log.warning("database_wal_removed", reason="it belongs to a file that was replaced", path=str(self.path))
            self.remove_companions()
            whole = True
        self._rejected = () if whole else versions
        if not whole:
            raise self._mixed()

    def detach_readers(self) -> None:
        """Delete the index of the WAL of a file that was replaced; SQLite makes another one.

        Programs that still read the former file share its index with each other only.
        """
        if self._known is not None and _identities(self._companions())[1] == self._known.companions[1]:
            self._companion("shm").unlink(missing_ok=True)

    def remove_companions(self) -> None:
        """Delete WAL and index at the path; no process may have them open."""
        for companion in self._companions():
            companion.unlink(missing_ok=True)

    @contextmanager
    def without_checkpoint(self) -> Iterator[None]:
        """Keep the connections that close meanwhile from writing the WAL into the file and deleting it.

        Only the last connection does so, and the one that is open here may not write. Its transaction locks a file
        that was emptied, too, which has no WAL for this connection.
        """
        with closing(sqlite3.connect(f"{self.uri}?mode=ro", uri=True, isolation_level=None)) as last:
            with suppress(sqlite3.DatabaseError):  # content that is no database at all
                last.execute("BEGIN")
                last.execute("PRAGMA schema_version").fetchone()
            yield

    def _proven(self) -> bool:
        """Return whether no WAL could be foreign: there is none, or the file is as its writer left it."""
        return not _size(self._companion("wal")) or self._read_record() == str(file_version(self.path)[1:])

    def _left_wal(self) -> bool:
        """Return whether the WAL at the path is that of the file that this process had open."""
        return self._known is not None and _identities(self._companions())[0] == self._known.companions[0]

    def _is_whole(self) -> bool:
        """Return whether the file with its WAL is intact and has the newest row that the file has without the WAL.

        A WAL that belongs to a file only adds rows: the recorder deletes no prediction. A WAL that holds every page
        would also turn a file that is no database into one.
        """
        if not _intact(self.uri, "mode=ro") or not _is_database(self.uri):
            return False
        newest = _first(self.uri, "immutable=1", _NEWEST)
        return newest is None or _first(self.uri, "mode=ro", "SELECT 1 FROM predicciones WHERE id = ?", newest) == 1

    def _mixed(self) -> FileChangedError:
        name = self.path.name
        if not _size(self.path):
            return FileChangedError(
                f"{self.path} is missing or empty, but its {name}-wal with recorded answers is there; put the file"
                f" back, or move {name}-wal away to begin an empty database"
            )
        return FileChangedError(
            f"{self.path} and {name}-wal beside it are not one intact database; if it was restored from a copy, move"
            f" {name}-wal and {name}-shm away, otherwise restore a backup"
        )

    def _companions(self) -> tuple[Path, ...]:
        return self._companion("wal"), self._companion("shm")

    def _companion(self, kind: str) -> Path:
        """Return the path of a companion: SQLite has them beside the file that a link leads to."""
        real = Path(os.path.realpath(self.path))
        return real.with_name(f"{real.name}-{kind}")

    def _write_record(self) -> None:
        # Not synced: after a power cut it may be old, and then the next start checks the file.
        if self._lock_file is not None and self._known is not None:
            os.pwrite(self._lock_file, str(self._known.file[1:]).ljust(_RECORD_BYTES).encode(), 0)

    def _read_record(self) -> str:
        if self._lock_file is None:
            return ""
        return os.pread(self._lock_file, _RECORD_BYTES, 0).decode(errors="replace").strip()


def _identities(paths: tuple[Path, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(file_version(path)[:2] for path in paths)


def _size(path: Path) -> int:
    version = file_version(path)
    return version[-1] if version else 0


def _intact(uri: str, option: str) -> bool:
    """Return whether SQLite finds no damage; "immutable=1" reads the file without its WAL."""
    return _first(uri, option, "PRAGMA integrity_check(1)") == "ok"


def _is_database(uri: str) -> bool:
    """Return whether the file without its WAL is SQLite's; after a kill in a checkpoint it may look damaged."""
    try:
        with closing(sqlite3.connect(f"{uri}?immutable=1", uri=True)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode != sqlite3.SQLITE_NOTADB
    return True


def _first(uri: str, option: str, query: str, *parameters: object) -> object:
    """Return the first value of a query's result; None if there is none, or if the file is damaged or has no table.

    Raises:
        sqlite3.OperationalError: the file cannot be opened or is locked.

    """
    try:
        with closing(sqlite3.connect(f"{uri}?{option}", uri=True)) as connection:
            row = connection.execute(query, parameters).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return None
    except sqlite3.DatabaseError:
        return None
    return None if row is None else row[0]
