"""The signed model bundle: what training seals and inference opens.

A folder of five files: `model.pkl`, `model.onnx` (only where it was proven equal), `card.html` (the model card),
`manifest.json`, and `manifest.sig`, an Ed25519 signature (RFC 8032) of the manifest's bytes. The manifest pins each
file's SHA-256. Every byte is checked before anything is parsed or unpickled, and what is checked is what is loaded:
files are read once, into memory.

    BundleError
    ├── BundleMissingError      no bundle there, or a file of it is gone
    ├── BundleTamperedError     signature or digest does not hold
    └── BundleMismatchError     sound, but for another patient class
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.artifacts.baseline import Reference
from shared.contracts.scoring import ModelFacts, TrainedFacts

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
PICKLE = "model.pkl"
ONNX = "model.onnx"
CARD = "card.html"

PRODUCTION = "production"
STAGING = "staging"

_RESTORE = "`make train` fetches it anew from the registry, or trains another"


class BundleError(Exception):
    """A bundle that must not serve; the message says which, why and what to do."""


class BundleMissingError(BundleError):
    """There is no bundle, or it lacks a file."""


class BundleTamperedError(BundleError):
    """The signature or a digest does not hold."""


class BundleMismatchError(BundleError):
    """The bundle was trained for another patient class."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class FileDigest(_Part):
    """One file of the bundle."""

    sha256: str
    size: int


class Parity(_Part):
    """How `model.onnx` compares with `model.pkl` on train, boundary and golden rows; it serves only if it passed.

    `max_abs_difference` is that of a probability, rounded up to whole millionths.
    """

    rows: int
    max_abs_difference: float
    label_flips: int
    tolerance: float
    passed: bool


class Golden(_Part):
    """Encoded rows (None where missing) and what `model.pkl` answered, as float32: n x columns, n x classes."""

    rows: list[list[float | None]]
    probabilities: list[list[float]]


class Conformal(_Part):
    """When a class is plausible: its probability is at least `plausible_at`.

    Among cases like those it was set on, the plausible classes hold the true one with probability `level` or more.
    """

    level: float
    plausible_at: float


class _Identity(_Part):
    format: Literal[1] = 1
    name: str
    version: str
    run_id: str
    created: datetime


class Manifest(TrainedFacts, _Identity):
    """Everything about one model version that others rely on."""

    model_config = ConfigDict(extra="forbid")

    reference: Reference | None = None
    serves: Literal["onnx", "pickle"]
    parity: Parity
    golden: Golden
    conformal: Conformal | None = None
    metrics: dict[str, float]
    files: dict[str, FileDigest]
    libraries: dict[str, str]
    parameters: dict[str, Any]
    data_hash: str
    git_commit: str
    git_dirty: bool | None = None
    """Whether files differed from that commit; None: not known."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose signature and digests hold. `digest`, the SHA-256 of the manifest, identifies it."""

    manifest: Manifest
    digest: str
    files: dict[str, bytes]

    @property
    def facts(self) -> ModelFacts:
        """The facts of the model, for scores and the Open Inference Protocol."""
        manifest = self.manifest
        trained = {name: getattr(manifest, name) for name in TrainedFacts.model_fields}
        trained |= {name: tuple(sorted(trained[name])) for name in ("low_prevalence", "never_missing")}
        return ModelFacts(
            name=manifest.name,
            version=manifest.version,
            digest=self.digest,
            plausible_at=None if manifest.conformal is None else manifest.conformal.plausible_at,
            **trained,
        )


def file_digest(content: bytes) -> FileDigest:
    """Describe `content` for the manifest."""
    return FileDigest(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def seal(folder: Path, manifest: Manifest, key: Ed25519PrivateKey) -> str:
    """Write `manifest.json` and its signature into `folder`; returns the digest that identifies the bundle."""
    content = manifest.model_dump_json(indent=1).encode()
    (folder / MANIFEST).write_bytes(content)
    (folder / SIGNATURE).write_bytes(key.sign(content))
    return hashlib.sha256(content).hexdigest()


def open_bundle(folder: Path, public_key: Path, *, patient_digest: str) -> Bundle:
    """Read and verify the bundle in `folder`.

    Raises:
        BundleMissingError: a file, or the public key, is not there.
        BundleTamperedError: the signature or a digest does not hold.
        BundleMismatchError: its patient digest is not `patient_digest`.

    """
    manifest, digest = open_manifest(folder, public_key, patient_digest=patient_digest)
    files = {name: _verified(folder / name, expected) for name, expected in manifest.files.items()}
    return Bundle(manifest, digest, files)


def open_manifest(folder: Path, public_key: Path, *, patient_digest: str) -> tuple[Manifest, str]:
    """Read and verify the manifest of the bundle in `folder`, whatever its files are; gives its SHA-256 too.

    Raises what `open_bundle` raises.
    """
    content = _read(folder / MANIFEST)
    try:
        _public_key(public_key).verify(_read(folder / SIGNATURE), content)
    except InvalidSignature:
        message = f"{folder}: the signature of {MANIFEST} does not hold under {public_key}; refused. {_RESTORE}"
        raise BundleTamperedError(message) from None
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        message = f"{folder / MANIFEST}: signed, but not a manifest this version reads ({error.error_count()} errors)"
        raise BundleMismatchError(message) from None
    if manifest.patient_digest != patient_digest:
        message = (
            f"{folder}: trained for patient {manifest.patient_digest[:12]}, but PREDECIR_PACIENTE is "
            f"{patient_digest[:12]}; train a model for this patient class, or choose the other"
        )
        raise BundleMismatchError(message)
    return manifest, hashlib.sha256(content).hexdigest()


def signing_key(folder: Path) -> Ed25519PrivateKey:
    """Load the training side's key from `folder`, generating the pair (`bundle.key`, `bundle.pub`) the first time.

    Raises:
        BundleError: what is there is no such key.

    """
    private, public = folder / "bundle.key", folder / "bundle.pub"
    if not private.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _place(private, _new_key())
    try:
        key = serialization.load_pem_private_key(private.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        message = f"{private}: not an Ed25519 key; move it away to have a new pair made"
        raise BundleError(message)
    if not public.exists():
        pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        _place(public, key.public_key().public_bytes(*pem), mode=0o644)
    return key


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _place(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write the file `path` whole or not at all; what is there by then stays."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # unlike renaming, it leaves what is there
    finally:
        draft.unlink(missing_ok=True)


def _public_key(path: Path) -> Ed25519PublicKey:
    content = _read(path, do="place the public key of whoever trains there, or train a model (`make train`)")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        message = f"{path}: not an Ed25519 public key"
        raise BundleError(message)
    return key


def _verified(path: Path, expected: FileDigest) -> bytes:
    content = _read(path)
    if file_digest(content) != expected:
        message = f"{path}: its SHA-256 is not the one that was signed; refused. {_RESTORE}"
        raise BundleTamperedError(message)
    return content


def _read(path: Path, *, do: str = "train a model first (`make train`)") -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        message = f"{path}: not there; {do}"
        raise BundleMissingError(message) from None
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror})"
        raise BundleMissingError(message) from error
