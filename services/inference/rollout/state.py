"""The state of the rollout on this replica: what serves, what was rejected, what the registry last answered."""

from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from services.inference.metrics import Metrics
from services.inference.serving.model import LoadedModel
from shared.contracts.scoring import ModelFacts

_NO_PRODUCTION = "none was promoted, or it was deleted in MLflow; what serves stays until another is promoted"


@dataclass(frozen=True, slots=True)
class RejectedVersion:
    """A version that must not serve, and the reason: one line that ends with what to do."""

    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class ServingModel:
    """The model that serves, the library that computes it, and since when it serves."""

    facts: ModelFacts
    platform: str
    since: datetime


@dataclass(frozen=True, slots=True)
class RegistryStatus:
    """When the registry at `url` last answered all that was requested, and since when it does not.

    `reason` is why it does not, or why the version that serves is not in production there.
    """

    url: str
    last_answer: datetime | None = None
    silent_since: datetime | None = None
    reason: str | None = None


class RolloutState:
    """The one place of this state. Each change is logged once, and shown in the metrics."""

    def __init__(self, metrics: Metrics, registry_url: str | None) -> None:
        """Start with nothing; `registry_url` is without credentials, None if no registry is followed."""
        self._metrics = metrics
        self.serving: ServingModel | None = None
        self.production: str | None = None
        """The version in production, as far as it is known."""
        self.rejected: RejectedVersion | None = None
        """The version in production, if it must not serve."""
        self.registry: RegistryStatus | None = None if registry_url is None else RegistryStatus(registry_url)
        if registry_url is not None:
            metrics.registry_seen(0)

    def serve(self, loaded: LoadedModel) -> None:
        """Note that `loaded` serves from now on."""
        facts, before = loaded.model.facts, self.serving
        self.serving = ServingModel(facts, loaded.model.platform, datetime.now(UTC))
        structlog.get_logger().info(
            "model_serving",
            name=facts.name,
            version=facts.version,
            digest=facts.digest,
            platform=loaded.model.platform,
            instead_of=before and before.facts.version,
        )

    def reject(self, rejected: RejectedVersion | None) -> None:
        """Note the rejection of the version in production; None if there is nothing to reject."""
        if rejected == self.rejected:
            return
        if rejected is not None:
            structlog.get_logger().error("model_refused", version=rejected.version, reason=rejected.reason)
        self._metrics.rejected(None if rejected is None else rejected.version)
        self.rejected = rejected

    def registry_answered(self, url: str) -> None:
        """Note that the registry gave all that was requested; also if no version is in production there."""
        before = self.registry or RegistryStatus(url)
        if before.silent_since is not None:
            structlog.get_logger().info("registry_back", registry=url)
        reason = None if self.production else f"{url} has no version in production; {_NO_PRODUCTION}"
        if reason is not None and reason != before.reason:
            structlog.get_logger().warning("registry_without_production", reason=reason)
        now = datetime.now(UTC)
        self.registry = RegistryStatus(url, now, reason=reason)
        self._metrics.registry_seen(now.timestamp())

    def registry_silent(self, url: str, reason: str) -> None:
        """Note that the registry does not answer."""
        before = self.registry or RegistryStatus(url)
        if before.silent_since is None:
            structlog.get_logger().warning("registry_silent", reason=reason)
        self.registry = RegistryStatus(url, before.last_answer, before.silent_since or datetime.now(UTC), reason)
