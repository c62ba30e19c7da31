"""Composition root of the inference service: the only place that knows all its pieces."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.inference.api import status
from services.inference.api.routes import protocol_routes
from services.inference.metrics import Metrics
from services.inference.rollout.mlflow_client import open_registry
from services.inference.rollout.registry_sync import RegistrySync
from services.inference.rollout.rollout import Production
from services.inference.rollout.swapper import Swapper
from services.inference.serving.batcher import Batcher
from shared.artifacts.bundle import PRODUCTION
from shared.artifacts.store import ModelStore
from shared.patient import load_patient
from shared.web.hosting import Part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prometheus_client import CollectorRegistry

    from services.inference.settings import InferenceSettings
    from shared.contracts.scoring import Cards, Scorer
    from shared.patient import Patient


@dataclass(frozen=True, slots=True)
class Inference:
    """The running service: its routes and readiness, and its model and card for callers in the same process."""

    part: Part
    scorer: Scorer
    cards: Cards


@contextlib.asynccontextmanager
async def open_inference(
    settings: InferenceSettings, registry: CollectorRegistry, patient: type[Patient]
) -> AsyncIterator[Inference]:
    """Run the service. What is in production has been looked at once when this yields, and is from then on."""
    metrics = Metrics(registry)
    batcher = Batcher(max_batch=settings.inference_max_batch, max_queue=settings.inference_max_queue, metrics=metrics)
    model_store = ModelStore(settings.var, patient.disease.name, patient.digest)
    follower = Swapper(settings.var / "keys" / "bundle.pub", patient.digest, batcher, metrics)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(batcher.close)
        mirror = None
        if (url := settings.followed_registry) is not None:
            mirror = RegistrySync(
                await stack.enter_async_context(open_registry(url, patient.disease.name)), model_store, metrics
            )
        link = settings.inference_bundle or model_store.folder / PRODUCTION
        production = Production(link, follower, batcher, mirror)
        await production.start()
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        looking = tasks.create_task(production.keep_looking(settings.inference_poll_seconds))
        stack.callback(looking.cancel)
        router, hot = protocol_routes(batcher, patient, max_rows=settings.inference_max_rows)
        part = Part(
            routers=(router, status.status_router(production)),
            unready=lambda: {"modelo": reason} if (reason := batcher.unavailable()) else {},
            hot=hot,
        )
        yield Inference(part, scorer=batcher, cards=batcher)


@contextlib.asynccontextmanager
async def alone(settings: InferenceSettings, registry: CollectorRegistry) -> AsyncIterator[tuple[Part, ...]]:
    """Run the inference service as a service of its own."""
    async with open_inference(settings, registry, load_patient(settings.predecir_paciente)) as inference:
        yield (inference.part,)
