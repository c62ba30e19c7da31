"""The inference service in this process, polling often, with its metrics and status for operators."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from services.inference.app import Inference, open_inference
from services.inference.settings import InferenceSettings
from shared.web.hosting import http_app
from tests.support.bundles import PacienteDePrueba, random_rows

ROW = random_rows(PacienteDePrueba, 1, seed=9)[0]


@dataclass(frozen=True, slots=True)
class Running:
    """One inference service."""

    inference: Inference
    registry: CollectorRegistry
    client: httpx.AsyncClient

    async def version(self) -> str:
        return (await self.inference.scorer.score(ROW)).model.version

    async def state(self) -> dict[str, Any]:
        state: dict[str, Any] = (await self.client.get("/modelo")).json()
        return state

    async def serves(self, version: str) -> bool:
        return self.inference.scorer.unavailable() is None and await self.version() == version

    def shows(self, version: str) -> bool:
        """Return whether the metrics name `version`, and no other, as the serving one."""
        shown = [sample for metric in self.registry.collect() for sample in metric.samples]
        return [sample.labels["version"] for sample in shown if sample.name == "inference_model"] == [version]

    def refused(self, version: str) -> float | None:
        return self.registry.get_sample_value("inference_model_refused", {"version": version})

    def failures(self) -> float:
        return self.registry.get_sample_value("inference_load_failures_total") or 0


@asynccontextmanager
async def running(var: Path, mlflow_url: str | None = None) -> AsyncIterator[Running]:
    """Run it on the folder `var`, following the registry at `mlflow_url` or else the folder's link."""
    registry = CollectorRegistry()
    settings = InferenceSettings(PREDECIR_VAR=var, mlflow_tracking_uri=mlflow_url, inference_poll_seconds=0.02)
    async with open_inference(settings, registry, PacienteDePrueba) as inference:
        app = http_app("test", inference.part, registry=registry)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as client:
            yield Running(inference, registry, client)
