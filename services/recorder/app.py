"""Composition of the recorder: database, store, read API and readiness."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy.ext.asyncio import AsyncEngine

from services.recorder.accounting.reconcile import read_last_seq
from services.recorder.analysts.grants import serve_analysts
from services.recorder.analysts.time_zone import clinic_zone
from services.recorder.api.routes import read_router
from services.recorder.db.database import open_database
from services.recorder.ingest.consumer import Consumer
from services.recorder.ingest.policies import read_management_url
from services.recorder.ingest.store import Store
from services.recorder.ingest.trust import GatewayTrust, TrustPolicy
from services.recorder.metrics import Metrics
from services.recorder.settings import RecorderSettings
from shared.broker.settings import read_broker_url
from shared.broker.topology import topology
from shared.cancellation import background
from shared.contracts.transport import OutboxState
from shared.failpoints import failpoint
from shared.patient import load_patient
from shared.web.hosting import Part, Reason

SILENCE_SECONDS = 30
"""Time without a delivery after which the consumer checks the queue at the broker."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """A running recorder: routes and readiness, and the store, which is the transport of a relay in this process."""

    part: Part
    store: Store
    last_seq: Callable[[str], Awaitable[int]]
    """Returns the last `seq` of a gateway id in the database, or 0."""
    readers: AsyncEngine


async def no_outboxes() -> Sequence[OutboxState]:
    """Return no state: no gateway runs in this process."""
    return ()


@asynccontextmanager
async def open_recorder(
    settings: RecorderSettings,
    registry: CollectorRegistry,
    outboxes: Callable[[], Awaitable[Sequence[OutboxState]]] = no_outboxes,
) -> AsyncIterator[Recorder]:
    """Open the database, create or upgrade its tables and the analysts' view, and run the recorder on it.

    `outboxes` returns the state of the gateways of this process, for `/conciliacion`.

    Raises:
        SettingsError: `DATABASE_URL` cannot be used, or no zone has the name `CLINIC_TIME_ZONE`.
        PatientClassError: the patient class, which defines the analysts' view, cannot be used.
        StartError: the database cannot be used.

    """
    url = settings.database()
    zone = clinic_zone(settings.clinic_time_zone)
    patient = load_patient(settings.predecir_paciente)
    async with open_database(url) as database:
        failpoint("migration.migrated")
        await serve_analysts(database.writer, patient, zone)
        store = Store(database.writer, Metrics(registry))

        def unready() -> Mapping[str, Reason]:
            down = store.down()
            return {} if down is None else {"base_de_datos": Reason("No se puede escribir en la base de datos.", down)}

        async with store.watched():
            router = read_router(database.readers, outboxes, patient.disease.classes)
            last_seq = partial(read_last_seq, database.readers)
            yield Recorder(Part((router,), unready), store, last_seq, database.readers)


@asynccontextmanager
async def alone(settings: RecorderSettings, registry: CollectorRegistry) -> AsyncIterator[tuple[Part, ...]]:
    """Run the recorder as a separate service: the read API, and a consumer if there is a `BROKER_URL`.

    A consumer that crashes ends the service: no process stays that records nothing.

    Raises:
        SettingsError: `BROKER_URL` or `BROKER_MANAGEMENT_URL` is malformed, or `ENROLMENT_SECRET_FILE` cannot be used.

    """
    url = None if settings.broker_url is None else read_broker_url(settings.broker_url)
    management = None
    if url is not None and settings.broker_management_url is not None:
        management = read_management_url(settings.broker_management_url, url)
    policy = TrustPolicy(
        settings.enrolment_secret(), settings.recorder_max_gateways, unsigned=settings.recorder_unsigned_messages
    )
    async with open_recorder(settings, registry) as recorder:
        if url is None:
            yield (recorder.part,)
            return
        trust = GatewayTrust(policy, recorder.store)
        await trust.refresh(recorder.readers)
        trust.log_policy()
        consumer = Consumer(
            url,
            topology(settings.broker_prefix),
            recorder.store,
            trust,
            prefetch=settings.broker_prefetch,
            silence_seconds=SILENCE_SECONDS,
            management=management,
        )
        Gauge("predecir_recorder_consuming", "Whether the broker delivers", registry=registry).set_function(
            lambda: consumer.consuming
        )
        async with background(consumer.run()), background(trust.follow(recorder.readers)):
            yield (recorder.part,)
