"""Stack: the server profile as processes on this machine.

One gateway, and inference: alone, or replicas behind HAProxy. Recorders start and stop as the caller needs. The fault
rig has `chaos.stack.SupervisedStack` instead, in which every process is replaced when it ends.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from shared.diseases.thyroid import DatosPaciente
from tests.support import plain_http
from tests.support.broker import Broker
from tests.support.bundles import copy_model, make_bundle
from tests.support.enrolment import enrolment
from tests.support.haproxy import haproxy
from tests.support.postgres import PostgresDatabase
from tests.support.processes import Process, running
from tests.support.waiting import until_now

SQLITE = "sqlite:///./predicciones.db"
RECORDED = "predecir_recorder_predictions_recorded_total"
ANSWERED = "predecir_answers_total"
PENDING = "predecir_outbox_pending"
DRAIN_SECONDS = 120
LOOK_SECONDS = 0.02
_CLIENTS = 4


@dataclass(frozen=True, slots=True)
class Backlog:
    """Position of the answers at one moment: `recorded` in the database, in the `outbox`, in the `queue`."""

    at: float
    answered: int
    recorded: int
    outbox: int
    queue: int


@dataclass(frozen=True, slots=True)
class Stack:
    """The running server profile, without its recorders. `balancer` is HAProxy in front of inference, if it runs."""

    folder: Path
    environment: dict[str, str]
    broker: Broker
    database: PostgresDatabase | None
    gateway: Process
    replicas: tuple[Process, ...]
    balancer: Process | None

    @property
    def inference(self) -> Process:
        """The first replica."""
        return self.replicas[0]

    def predict(self, number: int = 0) -> httpx.Response:
        patient = {"edad": number % 100, "sexo": "F", "tsh": 1.5}
        return plain_http.post(f"{self.gateway.url}/predecir", json=patient)

    @contextmanager
    def load(self, requests: int) -> Iterator[list[Future[httpx.Response]]]:
        """Send so many `requests` meanwhile; all are answered at the end."""
        with ThreadPoolExecutor(_CLIENTS) as pool:
            yield [pool.submit(self.predict, number) for number in range(requests)]

    @contextmanager
    def recorder(self, database: str | None = None) -> Iterator[Process]:
        """Run a recorder on the stack's database, or on SQLite if it has none; `database` is another URL."""
        folder = self.folder / "recorder"
        folder.mkdir(exist_ok=True)
        url = database or (SQLITE if self.database is None else self.database.url)
        with running("services.recorder", folder, self.environment | {"DATABASE_URL": url}) as process:
            yield process

    @contextmanager
    def another_gateway(self) -> Iterator[Process]:
        """Run a second gateway, with its own outbox, on the same inference and broker."""
        folder = self.folder / "another"
        folder.mkdir()
        environment = self.environment | {"INFERENCE_URL": self.inference.url}
        with running("services.gateway", folder, environment) as process:
            _until_ready(process)
            yield process

    def pending(self, gateway: Process | None = None) -> int:
        """Return the number of events in the outbox of `gateway`, by default of the first one."""
        return (gateway or self.gateway).metric(PENDING)

    def backlog(self, recorder: Process) -> Backlog:
        """Return the present position of the answers; `recorder` must have recorded every row."""
        recorded = recorder.metric(RECORDED)
        outbox, answered = self.gateway.metric(PENDING), self.gateway.metric(ANSWERED)
        return Backlog(time.monotonic(), answered, recorded, outbox, max(0, answered - recorded - outbox))

    def drain(self, recorder: Process) -> float:
        """Wait until every answer is recorded, at most `DRAIN_SECONDS`; return the seconds that took."""

        def drained() -> bool:
            backlog = self.backlog(recorder)
            return backlog.recorded >= backlog.answered

        started = time.monotonic()
        with suppress(TimeoutError):
            until_now(drained, seconds=DRAIN_SECONDS, every=LOOK_SECONDS)
        return time.monotonic() - started


@contextmanager
def server_stack(  # noqa: PLR0913 - each is one choice of the profile
    folder: Path,
    broker: Broker,
    policy: str = "local",
    *,
    model: Path | None = None,
    replicas: int | None = None,
    database: PostgresDatabase | None = None,
) -> Iterator[Stack]:
    """Run inference and a gateway in `folder`, on `broker`, with the acknowledgement `policy`.

    `model` is the folder of the version to serve; by default a small one is trained. With `replicas`, so many of
    inference run behind HAProxy; by default one runs without it. Recorders write to `database`, by default to SQLite.
    """
    environment = {
        "BROKER_URL": broker.url,
        "BROKER_PREFIX": broker.topology.events.exchange,
        "ACK_POLICY": policy,
        **enrolment(folder),
    }
    with ExitStack() as opened:
        scorers = tuple(opened.enter_context(_inference(folder, model, n)) for n in range(replicas or 1))
        url, balancer = scorers[0].url, None
        if replicas is not None:
            balancer = opened.enter_context(haproxy(folder, "models", [scorer.port for scorer in scorers]))
            url = balancer.url
        home = folder / "gateway"
        home.mkdir()
        gateway = opened.enter_context(running("services.gateway", home, environment | {"INFERENCE_URL": url}))
        _until_ready(gateway)
        yield Stack(folder, environment, broker, database, gateway, scorers, balancer)


@contextmanager
def _inference(folder: Path, model: Path | None, number: int) -> Iterator[Process]:
    home = folder / ("inference" if number == 0 else f"inference-{number}")
    home.mkdir()
    if model is None:
        make_bundle(home / "var", DatosPaciente)
    else:
        copy_model(home, model)
    with running("services.inference", home) as process:
        yield process


def _until_ready(process: Process) -> None:
    until_now(lambda: process.get("/health/ready").status_code == 200)


def ids(recorder: Process) -> list[str]:
    """Read the id of every row over the read API."""
    found: list[str] = []
    page = recorder.get("/predicciones?limite=500").json()
    while True:
        found += [row["id"] for row in page["predicciones"]]
        if page["siguiente"] is None:
            return sorted(found)
        page = recorder.get(f"/predicciones?limite=500&cursor={page['siguiente']}").json()
