"""Composition root of the inference service: the only module that imports all its parts."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from services.inference.api import status
from services.inference.api.errors import translated
from services.inference.api.routes import protocol_routes
from services.inference.metrics import Metrics
from services.inference.rollout.mlflow_client import open_registry
from services.inference.rollout.registry_sync import RegistrySync
from services.inference.rollout.rollout import Rollout
from services.inference.rollout.state import RolloutState
from services.inference.rollout.swapper import Swapper
from services.inference.serving.batcher import Batcher
from services.inference.settings import InferenceSettings
from shared.artifacts.bundle import PRODUCTION
from shared.artifacts.store import ModelStore
from shared.cancellation import background
from shared.contracts.scoring import Cards, Scorer
from shared.patient import Patient, load_patient
from shared.web.hosting import Part, Reason


@dataclass(frozen=True, slots=True)
class Inference:
    """The running service: its routes and readiness, and its scorer and card for callers in the same process."""

    part: Part
    scorer: Scorer
    cards: Cards


@contextlib.asynccontextmanager
async def open_inference(
    settings: InferenceSettings, metrics_registry: CollectorRegistry, patient: type[Patient]
) -> AsyncIterator[Inference]:
    """Run the service. The version in production was polled once when this yields, and is polled from then on."""
    metrics = Metrics(metrics_registry)
    batcher = Batcher(max_batch=settings.inference_max_batch, max_queue=settings.inference_max_queue, metrics=metrics)
    model_store = ModelStore(settings.var, patient.disease.name, patient.digest)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(batcher.close)
        client = registry_sync = None
        if (url := settings.followed_registry) is not None:
            client = await stack.enter_async_context(open_registry(url, patient.disease.name))
        state = RolloutState(metrics, None if client is None else client.url)
        if client is not None:
            registry_sync = RegistrySync(client, model_store, state, metrics)
            await stack.enter_async_context(contextlib.aclosing(registry_sync))
        rollout = Rollout(
            link=settings.inference_bundle or model_store.folder / PRODUCTION,
            public_key=model_store.public_key,
            swapper=Swapper(model_store.public_key, patient, batcher, state, metrics),
            batcher=batcher,
            state=state,
            registry_sync=registry_sync,
        )
        await rollout.start()
        await stack.enter_async_context(background(rollout.keep_polling(settings.inference_poll_seconds)))
        router, hot = protocol_routes(batcher, patient, max_rows=settings.inference_max_rows)
        part = Part(
            (router, status.status_router(state)), lambda: unready(batcher), hot, translations={"/v2": translated}
        )
        yield Inference(part, scorer=batcher, cards=batcher)


def unready(batcher: Batcher) -> dict[str, Reason]:
    """Return why the service is not ready, as `Part` has it."""
    message = batcher.unavailable()
    return {} if message is None else {"modelo": Reason("El modelo no está disponible.", message)}


@contextlib.asynccontextmanager
async def alone(settings: InferenceSettings, metrics_registry: CollectorRegistry) -> AsyncIterator[tuple[Part, ...]]:
    """Run inference as a separate service."""
    async with open_inference(settings, metrics_registry, load_patient(settings.predecir_paciente)) as inference:
        yield (inference.part,)
