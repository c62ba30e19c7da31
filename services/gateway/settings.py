"""The gateway's settings."""

from pathlib import Path

from pydantic import Field, SecretStr

from services.gateway.admission import AckPolicy
from shared.broker.settings import BrokerSettings


class GatewaySettings(BrokerSettings):
    """Environment variables of the gateway, in addition to those of every service."""

    inference_url: str = Field(default="http://127.0.0.1:8001", pattern=r"^https?://[^/]+/?$")
    """URL of the inference service, when the gateway runs as a service."""
    inference_key: SecretStr | None = None
    """API key of role `servicio` for that service, if it needs one."""
    reference_key_file: Path | None = None
    """Key that hashes references to patients, the same for all replicas; made if it is missing. Default:
    keys/reference.key under PREDECIR_VAR."""
    gateway_max_in_flight: int = Field(default=256, ge=1)
    """Requests in flight; more are rejected with 503 before any work is done for them."""
    gateway_deadline_seconds: float = Field(default=5, gt=0)
    """Time for one answer; after that it is a 503."""
    gateway_idempotency_hours: float = Field(default=24, gt=0)
    """How long a repeated `Idempotency-Key` gets the earlier answer."""
    outbox_max_events: int = Field(default=1_000_000, ge=1)
    """Events in the outbox; at this number, new requests are rejected."""
    outbox_min_free_mb: int = Field(default=64, ge=1)
    """MiB that must be free on the outbox's disk for a request to be accepted."""
    relay_linger_ms: int = Field(default=100, ge=0)
    """How long the relay waits for more events before it sends a batch."""
    relay_batch_events: int = Field(default=1000, ge=1)
    """Most events in one batch of the relay."""
    ack_policy: AckPolicy = "local"
    """When to answer: once the event is in the outbox; or once it is delivered, and else marked or rejected."""
    ack_wait_ms: int = Field(default=250, ge=1)
    """How long an answer waits for delivery, when ACK_POLICY is not `local`."""

    @property
    def outbox_folder(self) -> Path:
        """The folder of the outbox and of the public key."""
        return self.var / "gateway"

    @property
    def reference_key(self) -> Path:
        """The file of the key that hashes references to patients."""
        return self.reference_key_file or self.var / "keys" / "reference.key"
