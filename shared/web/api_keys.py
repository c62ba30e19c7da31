"""API keys: a file that all replicas share and read again when it changes.

A key is 256 random bits and is shown once. The file holds its SHA-256, so that reading the file opens nothing. A slow
password hash would add nothing: 256 random bits cannot be guessed. `services.gateway.key_admin` writes the file.

A second file, the mark, records that keys existed. Without it a lost file would open the service at its next start.
"""

import hashlib
import time
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.files import file_version, make_private_folder, read_regular, replace_file

LARGEST_KEYS = 4 * 1024 * 1024
"""Bytes of the file: some twenty thousand keys."""
_CHECK_SECONDS = 1.0
"""Shortest time between two checks of the file. A revoked key may be valid for that long."""
_SCHEME = b"bearer"
_MARK = b"""\
There are or were API keys here. While this file exists, no service starts without them.
`python -m services.gateway keys reset` deletes the keys and this file.
"""


class Role(StrEnum):
    """The role of a key; each route declares the roles that may use it."""

    MEDICO = "medico"
    """Requests diagnoses."""
    ANALISTA = "analista"
    """Reads recorded predictions."""
    OPS = "ops"
    """Operates the system: metrics and accounts, no patients."""
    SERVICIO = "servicio"
    """A service that calls another: the gateway calls inference."""


class ApiKey(BaseModel):
    """A key's entry in the file; it holds the digest, not the key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern="^[0-9a-f]{12}$")
    role: Role
    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    created: datetime
    revoked: datetime | None = None


class ApiKeyFile(BaseModel):
    """The content of the file. Revoked keys stay in it, so that their owners remain known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    keys: tuple[ApiKey, ...] = ()


class KeyFileError(Exception):
    """The file or its mark cannot be used; the message is one line with path and reason."""


def read_keys(path: Path) -> ApiKeyFile | None:
    """Return the content of the file, or None if there is no file.

    Raises:
        KeyFileError: the file cannot be read, or is not a list of keys.

    """
    try:
        return ApiKeyFile.model_validate_json(read_regular(path, LARGEST_KEYS))
    except FileNotFoundError:
        if path.is_symlink():
            raise KeyFileError(f"{path} leads to a file that is not there") from None
        return None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError:
        raise KeyFileError(f"{path} is not a list of keys; restore it, or remove it and create keys anew") from None


def has_mark(mark: Path) -> bool:
    """Return whether `mark` records that keys existed.

    Raises:
        KeyFileError: that is not known, since its folder cannot be searched.

    """
    try:
        mark.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise KeyFileError(f"{mark} cannot be read: {error.strerror}") from None
    return True


def write_mark(mark: Path) -> None:
    """Record durably that keys exist, unless `mark` exists.

    Raises:
        KeyFileError: it cannot be written.

    """
    try:
        if not has_mark(mark):
            make_private_folder(mark.parent)
            replace_file(mark, _MARK, mode=0o600, folder_owner=True)
    except OSError as error:
        raise KeyFileError(f"{mark} cannot be written: {error.strerror}") from None


def digest(key: bytes) -> str:
    """Return the SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(key).hexdigest()


class ApiKeyStore:
    """The keys as of the last check of the file. Once a key exists, every request needs one.

    If the file is removed or damaged, every key is rejected until it is restored: a revocation must not get lost.
    """

    def __init__(self, path: Path, mark: Path | None = None) -> None:
        """Read `path`. As soon as it has a key, record that in `mark`.

        Raises:
            KeyFileError: the file exists and cannot be used, or it is not known whether it exists.

        """
        self._path, self._mark = path, mark
        self._log = structlog.get_logger()
        self._version: tuple[int, ...] = ()
        self._by_digest: dict[str, ApiKey] = {}
        self.required = False
        """True if requests need a key: a key exists or has existed since the start, also a revoked one."""
        self.failure: str | None = None
        """Why keys cannot be checked, or None."""
        self._load()

    def refresh(self) -> None:
        """Check the file for changes, unless it was checked within the last second."""
        if time.monotonic() < self._next_check:
            return
        try:
            self._load()
        except KeyFileError as error:
            if self.failure is None:
                self._log.error("keys_unusable", reason=str(error))
            self.failure, self.required = str(error), True

    @property
    def active(self) -> int:
        """The number of keys that are not revoked."""
        return len(self._by_digest)

    def find(self, authorization: bytes) -> ApiKey | None:
        """Return the key in the value of an `Authorization` header, or None if it is unknown or revoked."""
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != _SCHEME:
            return None
        # The time of this look-up depends on the hash, which reveals nothing about the key.
        return self._by_digest.get(digest(key))

    def _load(self) -> None:
        self._next_check = time.monotonic() + _CHECK_SECONDS
        version = file_version(self._path)  # taken before reading, so that no change is missed
        if version and version == self._version and self.failure is None:
            return  # without a version it is not there or cannot be reached: only a read tells which
        listed = read_keys(self._path)
        if listed is None and self.required:
            raise KeyFileError(f"{self._path} is gone; restore it")
        keys = () if listed is None else listed.keys
        self._version = version
        self._by_digest = {key.sha256: key for key in keys if key.revoked is None}
        self.failure = None
        if keys and not self.required:
            self.required = True
            self._record()

    def _record(self) -> None:
        try:
            if self._mark is not None:
                write_mark(self._mark)
        except KeyFileError as error:
            self._log.warning("keys_mark_not_written", reason=str(error))
