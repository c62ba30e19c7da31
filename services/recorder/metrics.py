"""Metrics of the recorder, without patient values."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram

_COUNTERS = {
    "predictions": ("predecir_recorder_predictions_recorded", "Predictions recorded."),
    "feedback": ("predecir_recorder_outcomes_recorded", "Feedback recorded."),
    "duplicates": ("predecir_recorder_duplicates", "Deliveries that were recorded before."),
}
"""Name and documentation of a counter, by its key in `ingest.writes.BatchStats`."""
_QUARANTINE_KINDS = ("unreadable", "conflict", "refused", "unproven")


class Metrics:
    """Counters and histograms of the recorder."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register on `registry`; every series starts at 0."""
        self._counters = {key: Counter(*texts, registry=registry) for key, texts in _COUNTERS.items()}
        quarantined = Counter("predecir_recorder_quarantined", "Deliveries quarantined.", ["kind"], registry=registry)
        self._counters |= {kind: quarantined.labels(kind) for kind in _QUARANTINE_KINDS}
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

    @contextmanager
    def batch(self, size: int) -> Iterator[None]:
        """Measure the transaction of one batch of `size` events."""
        start = time.perf_counter()
        with self._failed.count_exceptions(BaseException):
            yield
        self._seconds.observe(time.perf_counter() - start)
        self._size.observe(size)

    def count(self, stats: Mapping[str, int]) -> None:
        """Add the `ingest.writes.BatchStats` of one committed batch."""
        for key, counter in self._counters.items():
            counter.inc(stats[key])
