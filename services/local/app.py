"""Composition root of the local profile: no broker, the relay sends its batches to the recorder directly."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.gateway.app import Gateway, open_gateway
from services.gateway.settings import GatewaySettings
from services.inference.app import open_inference
from services.inference.settings import InferenceSettings
from services.recorder.app import open_recorder
from services.recorder.settings import RecorderSettings
from shared.contracts.transport import OutboxState
from shared.files import locked
from shared.patient import load_patient
from shared.settings import read_settings
from shared.web.hosting import Part, StartError


@asynccontextmanager
async def open_local(settings: GatewaySettings, registry: CollectorRegistry) -> AsyncIterator[tuple[Part, ...]]:
    """Open recorder, inference and gateway; they close in reverse order, so that the outbox drains first."""
    patient = load_patient(settings.predecir_paciente)
    gateways: list[Gateway] = []

    async def outboxes() -> Sequence[OutboxState]:
        return [state for gateway in gateways for state in gateway.outbox.states]

    async with AsyncExitStack() as stack:
        stack.enter_context(_alone_in(settings.var))
        recorder = await stack.enter_async_context(
            open_recorder(read_settings(RecorderSettings), registry, outboxes=outboxes)
        )
        inference = await stack.enter_async_context(open_inference(read_settings(InferenceSettings), registry, patient))
        gateway = await stack.enter_async_context(
            open_gateway(
                settings,
                registry,
                patient=patient,
                scorer=inference.scorer,
                cards=inference.cards,
                transport=recorder.store,
                last_seq=recorder.last_seq,
            )
        )
        gateways.append(gateway)
        yield gateway.part, recorder.part, inference.part


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Lock `folder` while the process runs: only one process may write a SQLite file."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / "local.lock", seconds=0))
        except TimeoutError:
            raise StartError(f"{folder.resolve()}: another Predecir runs here; stop it first") from None
        except OSError as error:
            raise StartError(
                f"{folder}: cannot be written ({error.strerror}); PREDECIR_VAR chooses another folder"
            ) from None
        yield
