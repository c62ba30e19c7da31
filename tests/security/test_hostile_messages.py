"""Events of a hostile publisher in the recorder: each is recorded or quarantined, and its gateway's account closes."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import orjson
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from services.recorder.app import open_recorder
from services.recorder.ingest.store import Store
from services.recorder.settings import RecorderSettings
from shared.contracts.transport import Delivery
from shared.web.hosting import http_app
from tests.security.test_fuzzing import EVENTS, SEED, mutant_event
from tests.support.attack_table import Attack
from tests.support.postgres import PostgresServer

RISK = "API10 Unsafe consumption of APIs"
MESSAGES, EVENTS_PER_MESSAGE = 40, 50


@dataclass(frozen=True, slots=True)
class Recorder:
    """A recorder in this process: its store, and a client of its read API."""

    store: Store
    client: httpx.AsyncClient


def hostile_event(rng: random.Random) -> bytes:
    """Return a mutant of an event, mostly under a new id: another event of a recorded id is quarantined."""
    body = mutant_event(rng)
    try:
        event = orjson.loads(body)
        event["id"] = str(UUID(int=rng.getrandbits(128)))
    except (ValueError, TypeError):
        return body
    return orjson.dumps(event) if rng.random() < 0.9 else body


@pytest.fixture(params=["sqlite", "postgresql"])
async def recorder(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Recorder]:
    url = f"sqlite:///{tmp_path}/predicciones.db"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.url(server.new_database())
    settings, registry = RecorderSettings(database_url=SecretStr(url)), CollectorRegistry()
    async with open_recorder(settings, registry) as recorder:
        app = http_app("test", recorder.part, registry=registry)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield Recorder(recorder.store, client)


async def test_every_hostile_event_is_recorded_or_quarantined(recorder: Recorder, attack: Attack) -> None:
    rng = random.Random(SEED)  # noqa: S311 - the same events in every run, not keys
    with attack(RISK, "hostile events that stop the recorder or vanish") as tries:
        for message in range(MESSAGES):
            first = 1 + message * EVENTS_PER_MESSAGE
            bodies = [*(hostile_event(rng) for _ in range(EVENTS_PER_MESSAGE - 1)), rng.choice(EVENTS)]
            batch = [Delivery("gateway-1", seq, body) for seq, body in enumerate(bodies, first)]
            stored = await recorder.store.record(batch)
            for delivery in batch:
                tries.add(delivery.body, success=delivery.seq not in stored)
        account = (await recorder.client.get("/conciliacion")).json()
        [gateway] = account["gateways"]
        tries.add(
            account, success=account["diferencia"] != 0 or gateway["respondidas"] != MESSAGES * EVENTS_PER_MESSAGE
        )


async def test_no_hostile_event_costs_readers_a_page(recorder: Recorder, attack: Attack) -> None:
    rng = random.Random(SEED + 1)  # noqa: S311 - the same events in every run, not keys
    with attack(RISK, "hostile events that cost readers a page") as tries:
        for message in range(MESSAGES):
            first = 1 + message * EVENTS_PER_MESSAGE
            batch = [Delivery("gateway-1", first + each, hostile_event(rng)) for each in range(EVENTS_PER_MESSAGE)]
            await recorder.store.record(batch)
            response = await recorder.client.get("/predicciones", params={"limite": 500})
            tries.add(f"message {message}: {response.status_code}", success=not response.is_success)
