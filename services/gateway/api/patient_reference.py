"""The doctor's own reference to a patient, such as a record number: it is never kept, only its keyed hash is.

The hash is HMAC-SHA-256 (RFC 2104) under a key of the house. Whoever has the database but not the key can neither read
references nor try likely ones; whoever has both can. The same reference gives the same hash on every replica that has
the same key file.
"""

from __future__ import annotations

import hmac
import secrets
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.files import create_once
from shared.settings import SettingsError
from shared.web.problems import ProblemError, invalid_form

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LONGEST_REFERENCE = 128
"""Characters of a reference."""
_KEY_BYTES = 32
_SENTENCE = f"La referencia del paciente es un texto de 1 a {LONGEST_REFERENCE} caracteres."


class Referencia(BaseModel):
    """La referencia con la que el médico conoce al paciente."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"referencia": "HC 2026/0417"}]}
    )

    referencia: str = Field(
        min_length=1, max_length=LONGEST_REFERENCE, description="Texto libre; no se guarda, solo su hash."
    )


class HashDeReferencia(BaseModel):
    """La referencia tal como se guarda y se busca."""

    hash: str = Field(description="HMAC-SHA-256 de la referencia, en hexadecimal.", examples=["5f" * 32])


class References:
    """Hashes references under one key."""

    def __init__(self, key: bytes) -> None:
        """Take the `key`."""
        self._key = key

    def of_body(self, body: bytes) -> str:
        """Hash the reference of a JSON body.

        Raises:
            ProblemError: it holds none.

        """
        try:
            sent = Referencia.model_validate_json(body)
        except ValidationError as error:
            listed = error.errors(include_url=False, include_input=False)
            raise invalid_form(listed, {"referencia": _SENTENCE}) from None
        hashed = self._hash(sent.referencia)
        if hashed is None:
            listed_empty = [{"campo": "referencia", "regla": "limites", "mensaje": _SENTENCE}]
            raise ProblemError(422, "datos_no_validos", "Revise los campos indicados.", errors=listed_empty)
        return hashed

    def of_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Hash what `Referencia-Paciente` holds, percent-encoded UTF-8; none or a blank one gives None.

        Raises:
            ProblemError: there is more than one, it is not so encoded, or too long.

        """
        given = [value for name, value in headers if name == b"referencia-paciente"]
        if not given:
            return None
        try:
            text = unquote_to_bytes(given[0]).decode()
        except UnicodeDecodeError:
            text = None
        if text is None or len(text) > LONGEST_REFERENCE or len(given) > 1:
            detail = (
                f"Referencia-Paciente: una sola, de hasta {LONGEST_REFERENCE} caracteres, en UTF-8 y codificada con "
                "porcentajes, como en una dirección web."
            )
            raise ProblemError(400, "referencia", detail)
        return self._hash(text)

    def _hash(self, text: str) -> str | None:
        plain = normalised(text)
        return hmac.digest(self._key, plain.encode(), "sha256").hex() if plain else None


def normalised(text: str) -> str:
    """Write a reference as it is hashed, so that it is found again however it was typed.

    NFKC (full-width digits, ligatures), upper and lower case alike, white space trimmed and each run of it one space.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def open_references(path: Path) -> References:
    """Read the key at `path`, or make one there for its owner only; of replicas that start at once one makes it.

    Raises:
        SettingsError: it is there and is no key, or cannot be made.

    """
    try:
        if not path.exists():
            _make(path)
        key = bytes.fromhex(path.read_text("ascii"))
    except OSError as error:
        raise SettingsError(f"settings: REFERENCE_KEY_FILE: {path} cannot be used: {error.strerror}") from None
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(
            f"settings: REFERENCE_KEY_FILE: {path} is no such key; restore it, for references are lost without"
        )
    return References(key)


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if create_once(path, secrets.token_hex(_KEY_BYTES).encode() + b"\n"):
        structlog.get_logger().warning("reference_key_made", path=str(path))  # not at the first start: a key was lost
