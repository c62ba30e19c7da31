"""The gateway's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from shared.broker.settings import BrokerSettings


class GatewaySettings(BrokerSettings):
    """Environment variables of the gateway, beside those every service reads."""

    inference_url: str = Field(default="http://127.0.0.1:8001", pattern=r"^https?://[^/]+/?$")
    """Where to ask for scores, when the gateway runs alone."""
    inference_key: SecretStr | None = None
    """Key of role `servicio` to ask with, if that service needs one."""
    reference_key_file: Path | None = None
    """Key that hashes references to patients, the same for all replicas; made where it is missing. Unset:
    keys/reference.key under PREDECIR_VAR."""
    gateway_max_in_flight: int = Field(default=256, ge=1)
    """Requests being answered at once; more are refused with 503 before any work is done for them."""
    gateway_deadline_seconds: float = Field(default=5, gt=0)
    """How long one answer may take in all; after that it is a 503."""
    gateway_idempotency_hours: float = Field(default=24, gt=0)
    """How long a repeated `Idempotency-Key` gets the answer it got before."""
    outbox_max_events: int = Field(default=1_000_000, ge=1)
    """Answers waiting to be recorded; at this many, new requests are refused."""
    outbox_min_free_mb: int = Field(default=64, ge=1)
    """MiB that must be free on the outbox's disk for a request to be accepted."""
    relay_linger_ms: int = Field(default=100, ge=0)
    """How long the relay lets answers gather before it hands them over in one batch."""
    relay_batch_events: int = Field(default=1000, ge=1)
    """Most answers in one batch handed over."""
    ack_policy: Literal["local", "broker", "strict"] = "local"
    """When an answer is given: once it is in the outbox; or once handed over, and otherwise marked, or refused."""
    ack_wait_ms: int = Field(default=250, ge=1)
    """How long an answer waits to be handed over, when ACK_POLICY is not `local`."""

    @property
    def reference_key(self) -> Path:
        """The file of the key that hashes references."""
        return self.reference_key_file or self.var / "keys" / "reference.key"
