"""The cost of each stage of a request: each one alone, in this process, with the product's own functions.

Stages that only compute are called in a loop. Stages that batch many callers (the model, the outbox) are called by as
many tasks as there are connections. Such tasks then run the whole path, from the middleware to the recorded row: its
cost beyond the sum of the stages is that of the event loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry, Counter, Histogram
from pydantic import SecretStr
from pydantic_core import from_json
from starlette.types import ASGIApp, Message, Receive, Scope

from bench.suites.limits.costs import Cost, Timer
from bench.suites.limits.nothing import nothing
from services.gateway.admission import Admission, Limits
from services.gateway.api.answers import Answers
from services.gateway.api.requests import read_json, read_patient
from services.gateway.app import Gateway, open_gateway
from services.gateway.ids import new_id
from services.gateway.outbox.disk_guard import DiskGuard
from services.gateway.outbox.outbox import Outbox
from services.gateway.outbox.relay import Relay
from services.gateway.settings import GatewaySettings
from services.inference.app import open_inference
from services.inference.settings import InferenceSettings
from services.recorder.app import open_recorder
from services.recorder.settings import RecorderSettings
from shared.contracts.events import write_prediction
from shared.contracts.scoring import Score, Scorer
from shared.contracts.transport import Transport
from shared.diseases.thyroid import DatosPaciente
from shared.patient import Patient
from shared.web.api_keys import ApiKeyStore
from shared.web.authorization import Authorizer
from shared.web.middleware import EdgeMiddleware
from shared.web.rate_limit import RateLimit
from shared.web.rejections import Rejections
from shared.web.routing import route_roles

Step = Callable[[int], Awaitable[object]]

PREDECIR = ("POST", "/predecir")
RECORDING = "hand-over and recording"
"""The stage that no request waits for."""
WHOLE = "the whole way, without HTTP"
LOOP = "event loop, tasks, threads"
_LOOK_SECONDS = 0.002
_DEADLINE_SECONDS = 5
_EVENTS = 30_000
"""Number of distinct events, more than the outbox takes during the measurement."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The local profile in this process, and the inputs of its stages."""

    patients: Sequence[Patient]
    bodies: Sequence[bytes]
    scorer: Scorer
    transport: Transport
    gateway: Gateway
    rejections: Rejections
    guard: Authorizer
    settings: GatewaySettings
    timer: Timer


async def stages(home: Path, patients: Sequence[Patient], callers: int, timer: Timer) -> dict[str, Cost]:
    """Return the cost of each stage with `callers` callers, then LOOP and WHOLE; model and keys are in `home`/var."""
    async with _parts(home, patients, timer) as parts:
        score = await parts.scorer.score(parts.patients[0].encode())
        costs = {
            "address and key": await parts.timer.awaited(
                _asking(parts, EdgeMiddleware(nothing, {}, "localhost", parts.rejections, parts.guard)), 1
            ),
            "body": await parts.timer.awaited(_reading(parts), 1),
            **_validation(parts),
            "admission": _admission(parts, home),
            "deadline": await parts.timer.awaited(_waiting, 1),
            "counters": _counting(parts),
            "row and model": await parts.timer.awaited(_scoring(parts), callers),
            **_answering(parts, score),
            **await _keeping(parts, home, score, callers),
        }
        whole = await _whole(parts, callers)
    inside = Cost(sum(cost.wall_us for cost in costs.values()), sum(cost.cpu_us for cost in costs.values()))
    waited_for = Cost(inside.wall_us - costs[RECORDING].wall_us, inside.cpu_us)
    return {**costs, LOOP: whole.beyond(waited_for), WHOLE: whole}


@asynccontextmanager
async def _parts(home: Path, patients: Sequence[Patient], timer: Timer) -> AsyncIterator[Parts]:
    registry, settings = CollectorRegistry(), GatewaySettings(PREDECIR_VAR=home / "var")
    url = SecretStr(f"sqlite:///{home}/predicciones.db")
    async with (
        open_recorder(RecorderSettings(PREDECIR_VAR=home / "var", database_url=url), registry) as recorder,
        open_inference(InferenceSettings(PREDECIR_VAR=home / "var"), registry, DatosPaciente) as inference,
        open_gateway(
            settings,
            registry,
            patient=DatosPaciente,
            scorer=inference.scorer,
            cards=inference.cards,
            transport=recorder.store,
        ) as gateway,
    ):
        keys = ApiKeyStore(settings.keys_file)
        guard = Authorizer(keys, route_roles(*gateway.part.routers), RateLimit(settings.key_rate, settings.key_burst))
        bodies = [each.model_dump_json(exclude_defaults=True).encode() for each in patients]
        rejections = Rejections(registry)
        yield Parts(patients, bodies, inference.scorer, recorder.store, gateway, rejections, guard, settings, timer)


def _validation(parts: Parts) -> dict[str, Cost]:
    bodies = parts.bodies
    decoding = parts.timer.computed(lambda n: from_json(bodies[n % len(bodies)]))
    both = parts.timer.computed(lambda n: read_patient(bodies[n % len(bodies)], DatosPaciente))
    return {"JSON decoding": decoding, "validation": both.beyond(decoding)}


def _admission(parts: Parts, home: Path) -> Cost:
    disk = DiskGuard(home / "var", min_free_mb=parts.settings.outbox_min_free_mb)
    limits = Limits(in_flight=256, events=1_000_000, ack_policy="local", ack_seconds=1)
    admission = Admission(parts.gateway.outbox, disk, limits, CollectorRegistry())

    def admit(_: int) -> None:
        with admission.admitted({}):
            pass

    return parts.timer.computed(admit)


async def _waiting(_: int) -> None:
    async with asyncio.timeout(_DEADLINE_SECONDS):  # noqa: ASYNC100 - its cost is measured
        pass


def _counting(parts: Parts) -> Cost:
    registry = CollectorRegistry()
    answers, seconds = Counter("answers", "Answers", registry=registry), Histogram("took", "Seconds", registry=registry)

    def count(_: int) -> None:
        answers.inc()
        seconds.observe(0.001)

    return parts.timer.computed(count)


def _answering(parts: Parts, score: Score) -> dict[str, Cost]:
    answers, patients = Answers(DatosPaciente), parts.patients
    answer = answers.make(new_id(), patients[0], score)
    return {
        "answer": parts.timer.computed(lambda n: answers.make(new_id(), patients[n % len(patients)], score)),
        "JSON encoding": parts.timer.computed(lambda _: orjson.dumps(answer)),
        "event": parts.timer.computed(lambda n: _event(patients[n % len(patients)], score)),
    }


async def _keeping(parts: Parts, home: Path, score: Score, callers: int) -> dict[str, Cost]:
    """Fill an outbox, and relay its events."""
    events = [_event(parts.patients[n % len(parts.patients)], score) for n in range(_EVENTS)]
    outbox = await Outbox.open(home / "stage" / "outbox.db", keep_answers=60)
    kept = await parts.timer.awaited(lambda n: outbox.append(events[n % _EVENTS]), callers)
    relay = Relay(
        outbox,
        parts.transport,
        DiskGuard(home / "var", min_free_mb=parts.settings.outbox_min_free_mb),
        batch_events=parts.settings.relay_batch_events,
        linger_seconds=parts.settings.relay_linger_ms / 1000,
    )
    waiting, began, cpu = outbox.pending, time.perf_counter(), time.process_time()
    while outbox.pending and await relay.send_batch():
        pass
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    await outbox.close()
    return {"outbox, with fsync": kept, RECORDING: Cost(seconds / waiting * 1e6, cpu / waiting * 1e6)}


async def _whole(parts: Parts, callers: int) -> Cost:
    """Run the whole path; its CPU time includes the recording afterwards."""
    entrance = EdgeMiddleware(nothing, parts.gateway.part.hot, "localhost", parts.rejections, parts.guard)
    before, cpu = parts.gateway.outbox.state.answered, time.process_time()
    walked = await parts.timer.awaited(_asking(parts, entrance), callers)
    while parts.gateway.outbox.pending:  # noqa: ASYNC110 - the outbox has no event for being empty
        await asyncio.sleep(_LOOK_SECONDS)
    cpu = time.process_time() - cpu
    return Cost(walked.wall_us, cpu / (parts.gateway.outbox.state.answered - before) * 1e6)


def _event(patient: Patient, score: Score) -> bytes:
    return write_prediction(
        event_id=new_id(),
        source="/gateway/bench",
        time=datetime.now(UTC).isoformat(),
        inputs=patient.__dict__,
        output=score.model.classes[0],
        score=score,
        plausible=score.model.classes[:1],
    )


def _scoring(parts: Parts) -> Step:
    async def step(number: int) -> None:
        await parts.scorer.score(parts.patients[number % len(parts.patients)].encode())

    return step


def _reading(parts: Parts) -> Step:
    async def step(number: int) -> None:
        await read_json(*_request(parts.bodies[number % len(parts.bodies)]))

    return step


def _asking(parts: Parts, application: ASGIApp) -> Step:
    async def step(number: int) -> None:
        scope, receive = _request(parts.bodies[number % len(parts.bodies)])
        await application(scope, receive, _answered)

    return step


def _request(body: bytes) -> tuple[Scope, Receive]:
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope = {"type": "http", "method": PREDECIR[0], "path": PREDECIR[1], "headers": headers}

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return scope, receive


async def _answered(message: Message) -> None:
    if message.get("status", 200) != 200:
        raise RuntimeError(f"answered {message['status']}")
