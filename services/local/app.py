"""All services in one process, for a laptop: no broker, and the relay hands its batch straight to the recorder."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from services.gateway.app import open_gateway
from services.inference.app import open_inference
from services.inference.settings import InferenceSettings
from services.recorder.app import open_recorder
from services.recorder.settings import RecorderSettings
from shared.patient import load_patient
from shared.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from prometheus_client import CollectorRegistry

    from services.gateway.app import Gateway
    from services.gateway.settings import GatewaySettings
    from shared.hosting import Part
    from shared.transport import OutboxState


@asynccontextmanager
async def open_local(settings: GatewaySettings, registry: CollectorRegistry) -> AsyncIterator[tuple[Part, ...]]:
    """Open recorder, inference and gateway; they close in reverse, so that the outbox drains into the database."""
    patient = load_patient(settings.predecir_paciente)
    gateways: list[Gateway] = []

    async def outboxes() -> Sequence[OutboxState]:
        return [gateway.outbox.state for gateway in gateways]

    async with AsyncExitStack() as stack:
        recorder = await stack.enter_async_context(
            open_recorder(read_settings(RecorderSettings), registry, outboxes=outboxes)
        )
        inference = await stack.enter_async_context(open_inference(read_settings(InferenceSettings), registry, patient))
        gateway = await stack.enter_async_context(
            open_gateway(settings, registry, patient=patient, scorer=inference.scorer, transport=recorder.transport)
        )
        gateways.append(gateway)
        yield gateway.part, recorder.part, inference.part
