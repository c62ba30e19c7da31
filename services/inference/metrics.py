"""Prometheus metrics of the inference service: batches, load failures, the serving version, the registry."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.artifacts.bundle import PRODUCTION
from shared.contracts.scoring import ModelFacts

_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096)
_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1)


class Metrics:
    """The inference service's metrics on one metrics registry."""

    def __init__(self, metrics_registry: CollectorRegistry) -> None:
        """Register them; no model is loaded yet."""
        self._rows = Histogram(
            "inference_batch_rows", "Patients per model call", registry=metrics_registry, buckets=_BATCH_SIZES
        )
        self._seconds = Histogram(
            "inference_batch_seconds", "Duration of a model call", registry=metrics_registry, buckets=_SECONDS
        )
        self.failures = Counter("inference_batch_failures", "Model calls that failed", registry=metrics_registry)
        self.load_failures = Counter(
            "inference_load_failures", "Models that were rejected or missing", registry=metrics_registry
        )
        self._loaded = Gauge("inference_model_loaded", "1 while a model serves", registry=metrics_registry)
        self._rejected = Gauge(
            "inference_model_refused",
            "The version in production that must not serve",
            ["version"],
            registry=metrics_registry,
        )
        self._registry_seen = Gauge(
            "inference_registry_seen_timestamp_seconds",
            "When the registry last answered for this alias; absent without a registry",
            ["alias"],
            registry=metrics_registry,
        )
        self._info = Gauge(
            "inference_model", "The model that serves", ["name", "version", "digest"], registry=metrics_registry
        )

    def answered(self, rows: int, seconds: float) -> None:
        """Count one model call."""
        self._rows.observe(rows)
        self._seconds.observe(seconds)

    def rejected(self, version: str | None) -> None:
        """Show `version` as rejected, and no other; None if none is."""
        self._rejected.clear()
        if version is not None:
            self._rejected.labels(version).set(1)

    def registry_seen(self, moment: float) -> None:
        """Show when the model registry last answered, in seconds since 1970; 0 for never."""
        self._registry_seen.labels(PRODUCTION).set(moment)

    def serving(self, facts: ModelFacts) -> None:
        """Show `facts` as the model that serves, and no other."""
        self._info.clear()
        self._info.labels(facts.name, facts.version, facts.digest).set(1)
        self._loaded.set(1)
