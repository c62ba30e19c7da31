"""References to patients, such as record numbers: only a keyed hash of them is stored.

The hash is HMAC-SHA-256 (RFC 2104) under a key of the installation. With the database alone references can neither be
read nor guessed; with database and key they can. Replicas with the same key file compute the same hash.
"""

import hmac
import secrets
import unicodedata
from pathlib import Path
from urllib.parse import unquote_to_bytes

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import Scope

from shared.files import create_once, read_regular
from shared.settings import SettingsError
from shared.web.header_fields import header_fields
from shared.web.problems import ProblemError, invalid_form

LONGEST_REFERENCE = 128
"""Characters of a reference."""
_KEY_BYTES = 32
_LARGEST_KEY = 1024
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


class PatientReferences:
    """Hashes references to patients under one key."""

    def __init__(self, key: bytes) -> None:
        """Hash under `key`, of 32 bytes."""
        self._key = key

    def of_body(self, body: bytes) -> str:
        """Return the hash of the reference in a JSON body.

        Raises:
            ProblemError: the body holds none.

        """
        try:
            sent = Referencia.model_validate_json(body)
        except ValidationError as error:
            raise invalid_form(error, {"referencia": _SENTENCE}) from None
        hashed = self._hash(sent.referencia)
        if hashed is None:
            listed = [{"campo": "referencia", "regla": "limites", "mensaje": _SENTENCE}]
            raise ProblemError(422, "datos_no_validos", "Revise los campos indicados.", errors=listed)
        return hashed

    def of_request(self, scope: Scope) -> str | None:
        """Return the hash of the header `Referencia-Paciente`, percent-encoded UTF-8; None if it is absent or blank.

        Raises:
            ProblemError: there is more than one, it is not so encoded, or too long.

        """
        if b"referencia-paciente" not in header_fields(scope):
            return None
        values = [value for name, value in scope["headers"] if name == b"referencia-paciente"]
        try:
            text = unquote_to_bytes(values[0]).decode()
        except UnicodeDecodeError:
            text = None
        if text is None or len(text) > LONGEST_REFERENCE or len(values) > 1:
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
    """Return a reference in the form that is hashed, so that spelling variants have one hash.

    NFKC (full-width digits, ligatures), upper and lower case alike, white space trimmed and each run of it one space.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def open_patient_references(path: Path, *, first_start: bool) -> PatientReferences:
    """Read the key at `path`, or make one, readable by its owner only. Of replicas that start at once, one makes it.

    A key made after the `first_start` is logged as a warning: the one before was lost.

    Raises:
        SettingsError: it is there and is no key, or cannot be made.

    """
    try:
        if not path.exists():
            _make(path, first_start=first_start)
        key = bytes.fromhex(read_regular(path, _LARGEST_KEY).decode("ascii"))
    except OSError as error:
        raise SettingsError(f"settings: REFERENCE_KEY_FILE: {path} cannot be used: {error.strerror}") from None
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(
            f"settings: REFERENCE_KEY_FILE: {path} is no such key; restore it, for references are lost without"
        )
    return PatientReferences(key)


def _make(path: Path, *, first_start: bool) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if create_once(path, secrets.token_hex(_KEY_BYTES).encode() + b"\n"):
        log = structlog.get_logger()
        (log.info if first_start else log.warning)("reference_key_made", path=str(path))  # later, a key was lost
