"""Ed25519 signatures (RFC 8032) of bundles: the training side's key pair, and verification by its public key."""

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.artifacts.errors import BundleError, read_file
from shared.files import create_once

LARGEST_KEY = 64 * 1024
"""Bytes of a file with a key."""
_PLACE_KEY = "place the public key of the training side there, or train a model (`make train`)"


def signing_key(folder: Path) -> Ed25519PrivateKey:
    """Load the training side's private key from `folder`; the first call generates `bundle.key` and `bundle.pub`.

    Raises:
        BundleError: the file is not an Ed25519 private key without a password, or cannot be read.

    """
    private, public = folder / "bundle.key", folder / "bundle.pub"
    if not private.exists():
        folder.mkdir(parents=True, exist_ok=True)
        create_once(private, _new_key())
    try:
        key = serialization.load_pem_private_key(read_file(private, LARGEST_KEY), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: the key has a password
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{private}: not an Ed25519 key; move it away to have a new pair made")
    if not public.exists():
        pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        create_once(public, key.public_key().public_bytes(*pem), mode=0o644)
    return key


def signature_holds(content: bytes, signature: bytes, public_key: Path) -> bool:
    """Return whether `signature` is that of `content` under the key in the file `public_key`.

    Raises:
        BundleMissingError: the key cannot be read.
        BundleError: the file is not an Ed25519 public key.

    """
    try:
        _read_public_key(public_key).verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _read_public_key(path: Path) -> Ed25519PublicKey:
    content = read_file(path, LARGEST_KEY, advice=_PLACE_KEY)
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{path}: not an Ed25519 public key")
    return key


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
