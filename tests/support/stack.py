"""The server profile as processes: inference and gateway run, recorders come and go as a test wants."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.diseases.thyroid import DatosPaciente
from tests.support import plain_http
from tests.support.bundles import make_bundle
from tests.support.processes import Process, running
from tests.support.waiting import until_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    import httpx

    from tests.support.broker import Broker

_CLIENTS = 4


@dataclass(frozen=True, slots=True)
class Stack:
    """Gateway and inference at work."""

    folder: Path
    environment: dict[str, str]
    inference: Process
    gateway: Process

    def predict(self, number: int = 0) -> httpx.Response:
        patient = {"edad": number % 100, "sexo": "F", "tsh": 1.5}
        return plain_http.post(f"{self.gateway.url}/predecir", json=patient)

    @contextmanager
    def load(self, requests: int) -> Iterator[list[Future[httpx.Response]]]:
        """Ask `requests` times meanwhile; all are answered at the end."""
        with ThreadPoolExecutor(_CLIENTS) as pool:
            yield [pool.submit(self.predict, number) for number in range(requests)]

    @contextmanager
    def recorder(self, database: str = "sqlite:///./predicciones.db") -> Iterator[Process]:
        folder = self.folder / "recorder"
        folder.mkdir(exist_ok=True)
        with running("services.recorder", folder, self.environment | {"DATABASE_URL": database}) as process:
            yield process

    @contextmanager
    def another_gateway(self) -> Iterator[Process]:
        """Run a second gateway, with an outbox of its own, over the same inference and broker."""
        folder = self.folder / "another"
        folder.mkdir()
        environment = self.environment | {"INFERENCE_URL": self.inference.url}
        with running("services.gateway", folder, environment) as process:
            until_now(lambda: process.get("/health/ready").status_code == 200, seconds=30)
            yield process

    def pending(self, gateway: Process | None = None) -> float:
        """Count what waits in the outbox of `gateway`, or of this one."""
        lines = (gateway or self.gateway).get("/metrics").text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("predecir_outbox_pending ")))


@contextmanager
def server_stack(folder: Path, broker: Broker, policy: str = "local") -> Iterator[Stack]:
    """Run inference and gateway in `folder`, with `broker` behind them."""
    environment = {"BROKER_URL": broker.url, "BROKER_PREFIX": broker.topology.events.exchange, "ACK_POLICY": policy}
    inference, gateway = folder / "inference", folder / "gateway"
    for each in (inference, gateway):
        each.mkdir()
    make_bundle(inference / "var", DatosPaciente)
    with (
        running("services.inference", inference) as model,
        running("services.gateway", gateway, environment | {"INFERENCE_URL": model.url}) as process,
    ):
        until_now(lambda: process.get("/health/ready").status_code == 200)
        yield Stack(folder, environment, model, process)


def ids(recorder: Process) -> list[str]:
    """Read the id of every row over the read API."""
    found: list[str] = []
    page = recorder.get("/predicciones?limite=500").json()
    while True:
        found += [row["id"] for row in page["predicciones"]]
        if page["siguiente"] is None:
            return sorted(found)
        page = recorder.get(f"/predicciones?limite=500&cursor={page['siguiente']}").json()
