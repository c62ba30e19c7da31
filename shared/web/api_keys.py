"""The keys of those who may come in: a file that all replicas share and read again whenever it changes.

A key is 256 random bits and is shown once; the file holds its SHA-256, so that whoever reads the file cannot come in.
A slow password hash would add nothing: 256 random bits cannot be guessed. `services.gateway.key_admin` writes the file.
"""

from __future__ import annotations

import hashlib
import time
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.settings import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

_LOOK_SECONDS = 1.0
"""How often the file is looked at, at most; so long a revoked key may still open."""
_SCHEME = b"bearer"


class Role(StrEnum):
    """What a key's holder does; `shared.web.authorization` and each service's routes say what that opens."""

    MEDICO = "medico"
    """Asks for diagnoses."""
    ANALISTA = "analista"
    """Reads what was recorded."""
    OPS = "ops"
    """Runs the system: metrics and accounts, no patients."""
    SERVICIO = "servicio"
    """One service asking another: the gateway asking inference."""


class Key(BaseModel):
    """One key, without the key itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern="^[0-9a-f]{12}$")
    role: Role
    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    created: datetime
    revoked: datetime | None = None


class ApiKeyFile(BaseModel):
    """The content of the file. Revoked keys stay, so that it is known whose they were."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    keys: tuple[Key, ...] = ()


class KeyFileError(Exception):
    """The file is there and cannot be used; one line that says what and where."""


def read_keys(path: Path) -> ApiKeyFile | None:
    """Read the file, or give None if there is none.

    Raises:
        KeyFileError: it cannot be read, or is not a list of keys.

    """
    try:
        return ApiKeyFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError:
        raise KeyFileError(f"{path} is not a list of keys; restore it, or remove it and create keys anew") from None


def digest(key: bytes) -> str:
    """Give the SHA-256 of a key as the file has it."""
    return hashlib.sha256(key).hexdigest()


class ApiKeyStore:
    """The keys as of the last look at the file. Once there were keys, nobody comes in without one.

    If the file vanishes or is damaged, every key is refused until it is back: a revocation must not get lost.
    """

    def __init__(self, path: Path) -> None:
        """Read `path`.

        Raises:
            SettingsError: it is there and cannot be used.

        """
        self._path = path
        self._log = structlog.get_logger()
        self._version: tuple[int, ...] = ()
        self._by_digest: dict[str, Key] = {}
        self.required = False
        """Whether a key is needed: some key exists, or has existed since the start, be it revoked."""
        self.trouble: str | None = None
        """Why no key can be recognised, or None."""
        try:
            self._look()
        except KeyFileError as error:
            raise SettingsError(f"settings: PREDECIR_KEYS: {error}") from None

    def refresh(self) -> None:
        """Look at the file, if the last look is too long ago."""
        if time.monotonic() < self._next_look:
            return
        try:
            self._look()
        except KeyFileError as error:
            if self.trouble is None:
                self._log.error("keys_unusable", reason=str(error))
            self.trouble, self.required = str(error), True

    def find(self, authorization: bytes) -> Key | None:
        """Give the key that the value of an `Authorization` header presents, unless it is unknown or revoked."""
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != _SCHEME:
            return None
        # The time of this look-up tells something about a hash, and nothing about a key that has it.
        return self._by_digest.get(digest(key))

    def _look(self) -> None:
        self._next_look = time.monotonic() + _LOOK_SECONDS
        version = self._seen()
        if version == self._version and self.trouble is None:
            return
        listed = read_keys(self._path)
        if listed is None and self.required:
            raise KeyFileError(f"{self._path} is gone; restore it")
        keys = () if listed is None else listed.keys
        self._version = version
        self._by_digest = {key.sha256: key for key in keys if key.revoked is None}
        self.required = self.required or bool(keys)
        self.trouble = None

    def _seen(self) -> tuple[int, ...]:
        """What tells one state of the file from another; taken before reading, so that no change is missed."""
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ino, found.st_size
