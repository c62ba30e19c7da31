"""Composition root of the gateway: outbox, disk guard, relay and routes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Gauge

from services.gateway.admission import Admission, Limits
from services.gateway.api.explain import Explainer
from services.gateway.api.feedback import FeedbackHandler
from services.gateway.api.model_card import card_router
from services.gateway.api.model_versions import VersionCounter, versions_router
from services.gateway.api.patient_reference import open_patient_references
from services.gateway.api.predict import Predict
from services.gateway.api.routes import GatewayDeps, gateway_router
from services.gateway.identity import write_identity
from services.gateway.inference_client import open_remote_scorer
from services.gateway.outbox.disk_guard import DiskGuard
from services.gateway.outbox.outbox import Outbox, OutboxError
from services.gateway.outbox.rabbitmq import BrokerTransport
from services.gateway.outbox.relay import Relay
from services.gateway.outbox.signer import Signer
from services.gateway.outbox.status_reports import report_once, reporting
from services.gateway.page.routes import page_router
from services.gateway.settings import GatewaySettings
from shared.broker.settings import read_broker_url
from shared.broker.topology import topology
from shared.cancellation import background
from shared.contracts.scoring import Cards, Scorer
from shared.contracts.transport import Delivery, OutboxState, Transport, TransportDownError
from shared.patient import Patient, load_patient
from shared.web.hosting import Part, Reason, StartError
from shared.web.load_shedding import LoadShedder

DRAIN_SECONDS = 5
"""Time for a stopping gateway to empty its outbox; the rest waits on disk."""
CONFIRM_SECONDS = 5
"""Time for the broker to confirm a message; after that the message is published again."""
_log = structlog.get_logger()

LastSeq = Callable[[str], Awaitable[int]]
"""Returns the last `seq` of a gateway id that a recorder knows, or 0."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway."""

    part: Part
    outbox: Outbox


@asynccontextmanager
async def open_gateway(  # noqa: PLR0913 - each differs between the profiles
    settings: GatewaySettings,
    registry: CollectorRegistry,
    *,
    patient: type[Patient],
    scorer: Scorer,
    cards: Cards,
    transport: Transport,
    signer: Signer | None = None,
    last_seq: LastSeq | None = None,
) -> AsyncIterator[Gateway]:
    """Open the outbox and start the relay; on exit, relay the rest of the outbox.

    An outbox that is older than the recorder's `last_seq` of it was restored from a backup, and takes another id.
    The `signer` of `transport`, if it has one, gets the keys of the outbox.

    Raises:
        StartError: the outbox cannot be opened.
        SettingsError: the key of patient references cannot be used.

    """
    file = settings.outbox_folder / "outbox.db"
    references = open_patient_references(settings.reference_key, first_start=not file.exists())
    outbox = await _open_outbox(file, settings.gateway_idempotency_hours * 3600, last_seq)
    if signer is not None:
        signer.keys = outbox.keys
    disk = DiskGuard(file, min_free_mb=settings.outbox_min_free_mb)
    relay = Relay(
        outbox,
        transport,
        disk,
        batch_events=settings.relay_batch_events,
        linger_seconds=settings.relay_linger_ms / 1000,
    )
    Gauge("predecir_outbox_pending", "Answers not yet recorded", registry=registry).set_function(lambda: outbox.pending)
    limits = Limits(
        settings.gateway_max_in_flight, settings.outbox_max_events, settings.ack_policy, settings.ack_wait_ms / 1000
    )
    admission = Admission(outbox, disk, limits, registry)
    deadline = settings.gateway_deadline_seconds
    versions = VersionCounter(scorer, registry)
    predict = Predict(patient, versions, admission, references, deadline, registry)
    feedback = FeedbackHandler(patient, admission, deadline, registry)
    explainer = Explainer(patient, scorer, deadline, registry)
    router = gateway_router(GatewayDeps(patient, predict, feedback, explainer, references, deadline))

    def unready() -> dict[str, Reason]:
        reasons = {}
        if (message := versions.unavailable()) is not None:
            reasons["modelo"] = Reason("El modelo no está disponible.", message)
        if not disk.has_room():
            sentence = "No queda espacio para guardar respuestas."
            if disk.failure is not None:
                sentence = "No se pueden guardar respuestas."
            reasons["disco"] = Reason(sentence, disk.failure or "")
        return reasons

    try:
        routers = (router, page_router(patient), versions_router(versions), card_router(cards, deadline))
        part = Part(routers, unready, {("POST", "/predecir"): predict}, LoadShedder("/predecir", admission))
        async with background(relay.run()) as relaying:
            yield Gateway(part, outbox)
            relay.stop()
            await asyncio.wait({relaying}, timeout=DRAIN_SECONDS)
        await relay.drain(DRAIN_SECONDS)
    finally:
        await outbox.close()


async def _open_outbox(file: Path, keep_answers: float, last_seq: LastSeq | None) -> Outbox:
    try:
        outbox = await Outbox.open(file, keep_answers=keep_answers)
        if last_seq is not None and await last_seq(outbox.gateway_id) > outbox.state.answered:
            await outbox.renew_id()
    except OutboxError as error:
        raise StartError(str(error)) from None
    try:
        write_identity(file.parent, outbox.keys[outbox.gateway_id])
    except OSError as error:  # a full disk, for instance: only `identity` needs the file
        _log.warning("gateway_identity_not_written", gateway_id=outbox.gateway_id, reason=error.strerror)
    if (replaced := outbox.file.renewed) is not None:
        event, log = ("outbox_restored", _log.warning) if replaced in outbox.keys else ("gateway_id_made", _log.info)
        log(event, gateway_id=outbox.gateway_id, replaces=replaced, pending=outbox.pending)
    return outbox


@asynccontextmanager
async def alone(settings: GatewaySettings, registry: CollectorRegistry) -> AsyncIterator[tuple[Part, ...]]:
    """Run the gateway as a service: inference over HTTP, and events to the broker, if one is set.

    Raises:
        SettingsError: `BROKER_URL` is not a valid URL of a broker, or `ENROLMENT_SECRET_FILE` cannot be used.

    """
    patient = load_patient(settings.predecir_paciente)
    deadline = settings.gateway_deadline_seconds
    signer = Signer(settings.enrolment_secret())
    async with (
        open_remote_scorer(settings.inference_url, patient, key=settings.inference_key, deadline=deadline) as scorer,
        _transport(settings, signer) as transport,
    ):
        async with (
            open_gateway(
                settings,
                registry,
                patient=patient,
                scorer=scorer,
                cards=scorer,
                transport=transport,
                signer=signer,
            ) as gateway,
            reporting(lambda: gateway.outbox.reported_states, transport.report),
        ):
            yield (gateway.part,)
        await report_once(gateway.outbox.reported_states, transport.report)  # after the rest was relayed


@asynccontextmanager
async def _transport(settings: GatewaySettings, signer: Signer) -> AsyncIterator["BrokerTransport | NoBroker"]:
    if settings.broker_url is None:
        yield NoBroker()
        return
    url, names = read_broker_url(settings.broker_url), topology(settings.broker_prefix)
    async with aclosing(BrokerTransport(url, names, signer, confirm_seconds=CONFIRM_SECONDS)) as transport:
        yield transport


class NoBroker:
    """A transport that accepts nothing: while no broker is set, events wait in the outbox."""

    async def publish(self, batch: Sequence[Delivery]) -> set[int]:
        """Reject `batch`."""
        del batch
        raise TransportDownError("BROKER_URL is not set")

    async def report(self, state: OutboxState) -> None:
        """Do nothing."""
