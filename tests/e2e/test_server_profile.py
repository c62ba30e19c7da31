"""Every service a process of its own, and RabbitMQ between gateway and recorder: HTTP in, row out."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from shared.diseases.thyroid import DatosPaciente
from tests.bundles import make_bundle
from tests.postgres import postgres_server
from tests.processes import Process, refused, running
from tests.waiting import until_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.broker import Broker


@dataclass(frozen=True, slots=True)
class Stack:
    """Gateway and inference; a recorder is started by the test, when it wants one."""

    folder: Path
    environment: dict[str, str]
    gateway: Process

    def predict(self, number: int = 0) -> httpx.Response:
        patient = {"edad": number % 100, "sexo": "F", "tsh": 1.5}
        return httpx.post(f"{self.gateway.url}/predecir", json=patient, timeout=10)

    @contextmanager
    def recorder(self, database: str = "sqlite:///./predicciones.db") -> Iterator[Process]:
        folder = self.folder / "recorder"
        folder.mkdir(exist_ok=True)
        with running("services.recorder", folder, self.environment | {"DATABASE_URL": database}) as process:
            yield process

    def pending(self) -> float:
        lines = self.gateway.get("/metrics").text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("predecir_outbox_pending ")))


@pytest.fixture
def policy() -> str:
    return "local"


@pytest.fixture
def stack(tmp_path: Path, broker: Broker, policy: str) -> Iterator[Stack]:
    environment = {"BROKER_URL": broker.url, "BROKER_PREFIX": broker.topology.events.exchange, "ACK_POLICY": policy}
    inference, gateway = tmp_path / "inference", tmp_path / "gateway"
    for folder in (inference, gateway):
        folder.mkdir()
    make_bundle(inference / "var", DatosPaciente)
    with (
        running("services.inference", inference) as model,
        running("services.gateway", gateway, environment | {"INFERENCE_URL": model.url}) as process,
    ):
        until_now(lambda: process.get("/health/ready").status_code == 200)
        yield Stack(tmp_path, environment, process)


def ids(recorder: Process) -> set[str]:
    found: set[str] = set()
    page = recorder.get("/predicciones?limite=500").json()
    while True:
        found |= {row["id"] for row in page["predicciones"]}
        if page["siguiente"] is None:
            return found
        page = recorder.get(f"/predicciones?limite=500&cursor={page['siguiente']}").json()


def test_an_answer_becomes_a_row_in_postgresql(stack: Stack) -> None:
    with postgres_server() as postgres, stack.recorder(postgres.url(postgres.new_database())) as recorder:
        answered = {stack.predict(number).json()["id"] for number in range(20)}
        until_now(lambda: ids(recorder) == answered, seconds=30)
        assert recorder.stop() == 0
        assert stack.gateway.stop() == 0


def test_sqlite_behind_the_broker_works_too_and_a_late_recorder_misses_nothing(stack: Stack) -> None:
    answered = {stack.predict(number).json()["id"] for number in range(20)}
    assert stack.pending() == 20  # nobody has declared a queue yet
    with stack.recorder() as recorder:
        until_now(lambda: ids(recorder) == answered, seconds=30)
        until_now(lambda: stack.pending() == 0)
    answered |= {stack.predict(number).json()["id"] for number in range(20)}
    until_now(lambda: stack.pending() == 0)  # the queue holds them now
    with stack.recorder() as recorder:
        until_now(lambda: ids(recorder) == answered, seconds=30)


@pytest.mark.parametrize("policy", ["strict"])
def test_strict_gives_no_answer_that_the_broker_has_not_confirmed(stack: Stack) -> None:
    assert stack.predict().status_code == 503
    with stack.recorder():
        until_now(lambda: stack.predict().status_code == 200, seconds=30)


@pytest.mark.parametrize("service", ["services.gateway", "services.recorder"])
@pytest.mark.parametrize("url", ["http://user:geheim@host/", "amqp://host:5672/", "amqp://user:geheim@host:port/"])
def test_a_broker_url_that_is_none_is_one_line_and_78(tmp_path: Path, service: str, url: str) -> None:
    code, said = refused(service, tmp_path, {"BROKER_URL": url})
    assert (code, said.count("\n")) == (78, 1)
    assert "BROKER_URL" in said
    assert "geheim" not in said
