"""Metrics of the recorder, without patient values."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram

QUARANTINE_KINDS = ("unreadable", "conflict", "refused")


class Metrics:
    """Counters and histograms of the recorder."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register on `registry`; every series starts at 0."""
        self._predictions = Counter(
            "predecir_recorder_predictions_recorded", "Predictions recorded.", registry=registry
        )
        self._feedback = Counter("predecir_recorder_outcomes_recorded", "Feedback recorded.", registry=registry)
        self._duplicates = Counter(
            "predecir_recorder_duplicates", "Deliveries that were recorded before.", registry=registry
        )
        self._quarantined = Counter(
            "predecir_recorder_quarantined", "Deliveries quarantined.", ["kind"], registry=registry
        )
        self._failed = Counter(
            "predecir_recorder_batches_failed", "Batches that could not be written.", registry=registry
        )
        self._seconds = Histogram(
            "predecir_recorder_batch_seconds",
            "Time of one batch's transaction.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self._size = Histogram(
            "predecir_recorder_batch_events",
            "Events per batch.",
            buckets=(1, 4, 16, 64, 128, 256, 512),
            registry=registry,
        )
        for kind in QUARANTINE_KINDS:
            self._quarantined.labels(kind)

    @contextmanager
    def batch(self, size: int) -> Iterator[None]:
        """Measure the transaction of one batch of `size` events."""
        start = time.perf_counter()
        try:
            yield
        except BaseException:
            self._failed.inc()
            raise
        self._seconds.observe(time.perf_counter() - start)
        self._size.observe(size)

    def count(self, stats: Mapping[str, int]) -> None:
        """Add the `ingest.writes.BatchStats` of one committed batch."""
        self._predictions.inc(stats["predictions"])
        self._feedback.inc(stats["feedback"])
        self._duplicates.inc(stats["duplicates"])
        for kind in QUARANTINE_KINDS:
            self._quarantined.labels(kind).inc(stats[kind])
