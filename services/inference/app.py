"""Composition root of the inference service: the only place that knows all its pieces."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.inference.batching import Batcher
from services.inference.loading import Loader
from services.inference.metrics import Metrics
from services.inference.routes import ACCESS, router
from shared.bundle import PRODUCTION
from shared.hosting import Part
from shared.patient import load_patient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prometheus_client import CollectorRegistry

    from services.inference.settings import InferenceSettings
    from shared.model import Scorer
    from shared.patient import Patient


@dataclass(frozen=True, slots=True)
class Inference:
    """The running service: its routes and readiness, and its model for callers in the same process."""

    part: Part
    scorer: Scorer


@contextlib.asynccontextmanager
async def open_inference(
    settings: InferenceSettings, registry: CollectorRegistry, patient: type[Patient]
) -> AsyncIterator[Inference]:
    """Run the service. The model has been tried once when this yields; without one, it is tried again and again."""
    metrics = Metrics(registry)
    batcher = Batcher(max_batch=settings.inference_max_batch, max_queue=settings.inference_max_queue, metrics=metrics)
    loader = Loader(
        settings.inference_bundle or settings.var / "models" / patient.disease.name / PRODUCTION,
        settings.var / "keys" / "bundle.pub",
        patient.digest,
        batcher,
        metrics,
    )
    await loader.attempt()
    retrying = asyncio.create_task(loader.keep_trying(settings.inference_retry_seconds))
    part = Part(
        routers=(router(batcher, patient, max_rows=settings.inference_max_rows),),
        unready=lambda: {"modelo": reason} if (reason := batcher.unavailable()) else {},
        access=ACCESS,
    )
    try:
        yield Inference(part, batcher)
    finally:
        retrying.cancel()
        await asyncio.wait({retrying})
        batcher.close()


@contextlib.asynccontextmanager
async def alone(settings: InferenceSettings, registry: CollectorRegistry) -> AsyncIterator[tuple[Part, ...]]:
    """Run the inference service as a service of its own."""
    async with open_inference(settings, registry, load_patient(settings.predecir_paciente)) as inference:
        yield (inference.part,)
