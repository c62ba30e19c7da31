"""A gateway in process for tests: the real application, outbox and relay; only model and recorder are doubles."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from services.gateway.app import Gateway, open_gateway
from services.gateway.settings import GatewaySettings
from shared.contracts.scoring import Cards, Scorer
from shared.contracts.transport import Transport
from shared.diseases.thyroid import DatosPaciente
from shared.patient import Patient
from shared.web.hosting import edge_app, http_app
from tests.support.doubles import Card, Remembering, ThyroidByTsh

HYPER = {"edad": 47, "sexo": "F", "tsh": 0.05, "t3": 4.1, "t4_total": 210, "captacion_t4": 0.9}
PROBLEM = "application/problem+json"


class Client(httpx.AsyncClient):
    """A client of one gateway under test."""

    gateway: Gateway
    recorder: Remembering
    registry: CollectorRegistry

    async def predict(self, body: object, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.post("/predecir", content=content, headers={"Content-Type": "application/json"} | headers)

    async def say(self, prediction_id: str, body: object, **headers: str) -> httpx.Response:
        """Send feedback on a prediction."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | headers
        return await self.post(f"/predicciones/{prediction_id}/resultado", content=content, headers=headers)

    def answered(self) -> int:
        return self.gateway.outbox.state.answered


@asynccontextmanager
async def gateway(
    folder: Path,
    *,
    scorer: Scorer | None = None,
    cards: Cards | None = None,
    transport: Transport | None = None,
    patient: type[Patient] = DatosPaciente,
    **settings: Any,  # noqa: ANN401
) -> AsyncIterator[Client]:
    recorder, registry = Remembering(), CollectorRegistry()
    kept = GatewaySettings(PREDECIR_VAR=folder, **({"outbox_min_free_mb": 1, "relay_linger_ms": 0} | settings))
    async with open_gateway(
        kept,
        registry,
        patient=patient,
        scorer=scorer or ThyroidByTsh(),
        cards=cards or Card(),
        transport=transport or recorder,
    ) as opened:
        app = edge_app(http_app("test", opened.part, registry=registry), "localhost,127.0.0.1")
        async with Client(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as client:
            client.gateway, client.recorder, client.registry = opened, recorder, registry
            yield client
