"""The signed model bundle: training seals it, inference opens it.

A bundle is a folder: `model.pkl`, `model.onnx` (only if it was proven equal), `card.html` (the model card),
`manifest.json`, and `manifest.sig`, a signature of the manifest's bytes. The manifest pins each file's SHA-256.

A bundle is checked once, on bytes in memory: `check_manifest` checks the signature before it parses the manifest, and
`SealedManifest.with_files` checks each digest. A `Bundle` consists of the very bytes that were checked. Pass it on;
never read its folder a second time.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.artifacts.baseline import Baseline
from shared.artifacts.errors import BundleMismatchError, BundleMisnamedError, BundleTamperedError, read_file
from shared.artifacts.signing import signature_holds
from shared.contracts.scoring import ModelFacts, TrainedFacts

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
PICKLE = "model.pkl"
ONNX = "model.onnx"
CARD = "card.html"

LARGEST_FILE = 256 * 1024 * 1024
"""Bytes of one file of a bundle."""
LARGEST_MANIFEST = 16 * 1024 * 1024
LARGEST_SIGNATURE = 1024

PRODUCTION = "production"
STAGING = "staging"

_RESTORE = "`make train` fetches it anew from the registry, or trains another"


FileName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""The name of a file directly in a bundle's folder."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class FileDigest(_Part):
    """One file of the bundle."""

    sha256: str
    size: int = Field(ge=0)


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

    reference: Baseline | None = None
    serves: Literal["onnx", "pickle"]
    parity: Parity
    golden: Golden
    conformal: Conformal | None = None
    metrics: dict[str, float]
    files: dict[FileName, FileDigest]
    libraries: dict[str, str]
    parameters: dict[str, Any]
    data_hash: str
    git_commit: str
    git_dirty: bool | None = None
    """True if files differed from that commit; None: not known."""


@dataclass(frozen=True, slots=True)
class SealedManifest:
    """A manifest whose signature holds. `digest`, the SHA-256 of its bytes `content`, identifies the bundle.

    `origin` is the folder or registry that the bundle comes from, for messages.
    """

    manifest: Manifest
    digest: str
    content: bytes
    signature: bytes
    origin: str = field(compare=False)

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

    def with_files(self, files: Mapping[str, bytes]) -> "Bundle":
        """Check the content of every file that the manifest names, and complete the bundle.

        Raises:
            BundleTamperedError: a digest does not hold.

        """
        for name, expected in self.manifest.files.items():
            if file_digest(files[name]) != expected:
                raise _changed(f"{self.origin}/{name}")
        checked = {name: files[name] for name in self.manifest.files}
        return Bundle(self.manifest, self.digest, self.content, self.signature, self.origin, checked)


@dataclass(frozen=True, slots=True)
class Bundle(SealedManifest):
    """A bundle whose signature and digests hold: `files` has the checked content by name, without the manifest."""

    files: dict[str, bytes]

    @property
    def contents(self) -> dict[str, bytes]:
        """Every file of the bundle's folder, the manifest and its signature included."""
        return {**self.files, MANIFEST: self.content, SIGNATURE: self.signature}


def file_digest(content: bytes) -> FileDigest:
    """Describe `content` for the manifest."""
    return FileDigest(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def seal(folder: Path, manifest: Manifest, key: Ed25519PrivateKey) -> str:
    """Write `manifest.json` and its signature into `folder`; return the digest that identifies the bundle."""
    content = manifest.model_dump_json(indent=1).encode()
    (folder / MANIFEST).write_bytes(content)
    (folder / SIGNATURE).write_bytes(key.sign(content))
    return hashlib.sha256(content).hexdigest()


def open_bundle(folder: Path, public_key: Path, *, patient_digest: str, name: str | None = None) -> Bundle:
    """Read and check the bundle in `folder`; to serve it, pass the `name` of the model that it must be.

    Raises:
        BundleMissingError: a file, or the public key, cannot be read.
        BundleTamperedError: the signature, a digest or a size does not hold.
        BundleMisnamedError: it is sealed as another model than `name`.
        BundleMismatchError: its patient digest is not `patient_digest`, or this release cannot read the manifest.

    """
    content = read_file(folder / MANIFEST, LARGEST_MANIFEST)
    signature = read_file(folder / SIGNATURE, LARGEST_SIGNATURE)
    sealed = check_manifest(
        content, signature, public_key, patient_digest=patient_digest, name=name, origin=str(folder)
    )
    files = sealed.manifest.files.items()
    return sealed.with_files({file: _read(folder / file, digest) for file, digest in files})


def _read(path: Path, signed: FileDigest) -> bytes:
    try:
        return read_file(path, largest(signed))
    except BundleTamperedError:  # it is larger, and was not read
        raise _changed(str(path)) from None


def _changed(path: str) -> BundleTamperedError:
    return BundleTamperedError(f"{path}: its SHA-256 is not the one that was signed; refused. {_RESTORE}")


def largest(signed: FileDigest) -> int:
    """Return how many bytes a file may have that was `signed`."""
    return min(signed.size, LARGEST_FILE)


def check_manifest(  # noqa: PLR0913 - what is checked, and against what
    content: bytes, signature: bytes, public_key: Path, *, patient_digest: str, name: str | None, origin: str
) -> SealedManifest:
    """Check the bytes of a manifest from `origin`, then parse them.

    Raises what `open_bundle` raises.
    """
    if not signature_holds(content, signature, public_key):
        message = f"{origin}: the signature of {MANIFEST} does not hold under {public_key}; refused. {_RESTORE}"
        raise BundleTamperedError(message)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        message = f"{origin}/{MANIFEST}: signed, but not a manifest this version reads ({error.error_count()} errors)"
        raise BundleMismatchError(message) from None
    if name not in {None, manifest.name}:
        raise BundleMisnamedError(f"{origin}: sealed as model {manifest.name}, not {name}")
    if manifest.patient_digest != patient_digest:
        raise BundleMismatchError(
            f"{origin}: trained for patient {manifest.patient_digest[:12]}, but PREDECIR_PACIENTE is "
            f"{patient_digest[:12]}; train a model for this patient class, or choose the other"
        )
    return SealedManifest(manifest, hashlib.sha256(content).hexdigest(), content, signature, origin)
