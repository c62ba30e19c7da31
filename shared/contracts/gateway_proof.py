"""Proof that a message comes from its gateway: an Ed25519 signature (RFC 8032) by the key that determines its id.

A gateway's id is a fingerprint of its public key, so nobody can sign for the id of another gateway. An enrolment token,
a MAC of the public key under a secret of the site, proves that the key belongs to one of the site's gateways. Ids of
earlier versions are UUIDs and have no key.
"""

import hashlib
import hmac
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PUBLIC_KEY, SIGNATURE, TOKEN = "public-key", "signature", "enrolment"
HEADERS = (PUBLIC_KEY, SIGNATURE, TOKEN)
"""Names of the headers of a proof, in lower-case hexadecimal."""
MIN_SECRET_BYTES = 32
_PUBLIC_KEY, _SIGNATURE, _TOKEN = (re.compile(f"[0-9a-f]{{{2 * size}}}") for size in (32, 64, 32))
_ID_BYTES = 16
_ID = re.compile(f"[0-9a-f]{{{2 * _ID_BYTES}}}")
_ID_DOMAIN, _TOKEN_DOMAIN = b"predecir gateway-id v1\0", b"predecir enrolment v1\0"
_DOMAINS = {"events": b"predecir events v1\0", "status": b"predecir status v1\0"}
_PARSED_KEYS = 1024


class ProofError(Exception):
    """A proof that cannot be read. The message is the reason, without content of the message."""


def gateway_id_of(public_key: bytes) -> str:
    """Return the id of the gateway with this raw public key: 128 bits of its SHA-256, as 32 hexadecimal digits."""
    return hashlib.sha256(_ID_DOMAIN + public_key).hexdigest()[: 2 * _ID_BYTES]


def needs_proof(gateway_id: str) -> bool:
    """Return whether `gateway_id` has the form of a fingerprint, so that its gateway signs every message."""
    return _ID.fullmatch(gateway_id) is not None


def enrolment_token(secret: bytes, public_key: bytes) -> bytes:
    """Return the HMAC-SHA-256 of a raw public key under the site's enrolment secret."""
    return hmac.digest(secret, _TOKEN_DOMAIN + public_key, "sha256")


def token_holds(secret: bytes, public_key: bytes, token: bytes) -> bool:
    """Return whether `token` is that of `public_key`, in constant time."""
    return hmac.compare_digest(enrolment_token(secret, public_key), token)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a message claims, which its signature covers. A status has no events: `first_seq` and `events` are 0."""

    kind: Literal["events", "status"]
    gateway_id: str
    first_seq: int
    events: int
    body: bytes

    def signed_bytes(self) -> bytes:
        """Return the encoding that is signed: the domain, the length of the id, then fields of fixed lengths."""
        name = self.gateway_id.encode()
        counts = struct.pack(">QQ", self.first_seq, self.events)
        return _DOMAINS[self.kind] + struct.pack(">H", len(name)) + name + counts + hashlib.sha256(self.body).digest()


class GatewayKey:
    """The key pair of a gateway id."""

    def __init__(self, private_key: bytes) -> None:
        """Load a raw private key of 32 bytes."""
        self._private = Ed25519PrivateKey.from_private_bytes(private_key)
        self.public_key = self._private.public_key().public_bytes_raw()
        self.gateway_id = gateway_id_of(self.public_key)

    @classmethod
    def generate(cls) -> Self:
        """Return a new key pair."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    def private_bytes(self) -> bytes:
        """Return the raw private key, to store it."""
        return self._private.private_bytes_raw()

    def proof(self, claim: Claim, secret: bytes | None = None) -> dict[str, str]:
        """Return the headers that prove `claim`; with the enrolment `secret` of the site also its token."""
        headers = {PUBLIC_KEY: self.public_key.hex(), SIGNATURE: self._private.sign(claim.signed_bytes()).hex()}
        return headers if secret is None else headers | {TOKEN: enrolment_token(secret, self.public_key).hex()}


@dataclass(frozen=True, slots=True)
class Proof:
    """The proof that a message carries; `token` is None if it has no enrolment token."""

    public_key: bytes
    signature: bytes
    token: bytes | None

    def holds(self, claim: Claim) -> bool:
        """Return whether the key is that of the claimed id, and the signature is that of `claim` under it."""
        if gateway_id_of(self.public_key) != claim.gateway_id:
            return False
        try:
            _parsed(self.public_key).verify(self.signature, claim.signed_bytes())
        except (InvalidSignature, ValueError):  # ValueError: the bytes are no key
            return False
        return True


def read_proof(headers: Mapping[str, object]) -> Proof | None:
    """Return the proof in the headers of a message, or None if they have none.

    Raises:
        ProofError: a part of it is missing or malformed.

    """
    if PUBLIC_KEY not in headers and SIGNATURE not in headers:
        return None
    public_key, signature = _read(headers, PUBLIC_KEY, _PUBLIC_KEY), _read(headers, SIGNATURE, _SIGNATURE)
    token = _read(headers, TOKEN, _TOKEN) if TOKEN in headers else None
    return Proof(public_key, signature, token)


def read_public_key(text: str) -> bytes:
    """Return the raw public key in hexadecimal `text`, which a person entered.

    Raises:
        ProofError: it is not one.

    """
    if not _PUBLIC_KEY.fullmatch(text):
        raise ProofError("a public key has 64 hexadecimal digits; `python -m services.gateway identity` prints it last")
    return bytes.fromhex(text)


def _read(headers: Mapping[str, object], name: str, pattern: re.Pattern[str]) -> bytes:
    text = headers.get(name)
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ProofError(f"its header {name} is missing or malformed")
    return bytes.fromhex(text)


@lru_cache(maxsize=_PARSED_KEYS)
def _parsed(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)
