"""The server profile on this machine: every part a process, where answers are, and what each part has used.

RabbitMQ, PostgreSQL with fsync, one gateway, and inference: alone, or several replicas behind HAProxy. Recorders come
and go.
"""

from __future__ import annotations

import resource
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from bench.lib.conditions import give_model
from bench.lib.servers import Server, cpu_seconds, family, running, total
from tests.support.haproxy import haproxy
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.rabbitmq import RabbitServer, rabbit_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORDED = "predecir_recorder_predictions_recorded_total"
DRAIN_SECONDS = 120
LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Backlog:
    """Where answers were at one moment: `recorded` in PostgreSQL, `outbox` at the gateway, `queue` in between."""

    at: float
    answered: int
    recorded: int
    outbox: int
    queue: int


@dataclass(frozen=True, slots=True)
class Stack:
    """The server profile at work; the recorder comes and goes. Without a `balancer` there is one replica."""

    folder: Path
    rabbit: RabbitServer
    postgres: PostgresServer
    database: str
    gateway: Server
    replicas: tuple[Server, ...]
    balancer: psutil.Process | None

    @property
    def inference(self) -> Server:
        """The first replica."""
        return self.replicas[0]

    @contextmanager
    def recorder(self) -> Iterator[Server]:
        """Run a recorder on a port of its own."""
        home = self.folder / "recorder"
        home.mkdir(exist_ok=True)
        environment = {"BROKER_URL": self.rabbit.url, "DATABASE_URL": self.postgres.url(self.database)}
        with running([sys.executable, "-m", "services.recorder"], home, environment) as server:
            yield server

    def rows(self) -> int:
        """Count what is in PostgreSQL."""
        return int(self.postgres.query(self.database, "SELECT count(*) FROM predicciones")[0])

    def cpu(self, recorder: Server) -> dict[str, float]:
        """CPU seconds that each part has used up to now."""
        generator = resource.getrusage(resource.RUSAGE_CHILDREN)
        balancing = {} if self.balancer is None else {"balancer": cpu(self.balancer)}
        return {
            "gateway": cpu(self.gateway.process),
            "inference": sum(cpu(replica.process) for replica in self.replicas),
            "recorder": cpu(recorder.process),
            **balancing,
            "RabbitMQ": cpu(psutil.Process(self.rabbit.pid)),
            "PostgreSQL": cpu(psutil.Process(self.postgres.pid)),
            "load generator": generator.ru_utime + generator.ru_stime,
        }


@contextmanager
def server_profile(folder: Path, model: Path) -> Iterator[Stack]:
    """Run the server profile in `folder`, all but its recorder, on servers of its own."""
    with (
        rabbit_server() as rabbit,
        postgres_server(durable=True) as postgres,
        services_on(rabbit, postgres, folder, model) as stack,
    ):
        yield stack


@contextmanager
def services_on(
    rabbit: RabbitServer, postgres: PostgresServer, folder: Path, model: Path, *, replicas: int | None = None
) -> Iterator[Stack]:
    """Run gateway and inference in `folder`: one without a balancer, or as many `replicas` behind HAProxy."""
    with ExitStack() as opened:
        scorers = tuple(opened.enter_context(_inference(folder, model, n)) for n in range(replicas or 1))
        url, balancer = f"http://127.0.0.1:{scorers[0].port}", None
        if replicas is not None:
            ports = [scorer.port for scorer in scorers]
            url = opened.enter_context(haproxy(folder, "models", ports))
            balancer = next(each for each in psutil.Process().children() if each.name() == "haproxy")
        home = folder / "gateway"
        home.mkdir()
        environment = {"BROKER_URL": rabbit.url, "INFERENCE_URL": url}
        command = [sys.executable, "-m", "services.gateway"]
        gateway = opened.enter_context(running(command, home, environment))
        yield Stack(folder, rabbit, postgres, postgres.new_database(), gateway, scorers, balancer)


@contextmanager
def _inference(folder: Path, model: Path, number: int) -> Iterator[Server]:
    home = folder / f"inference-{number}"
    home.mkdir()
    give_model(home, model)
    with running([sys.executable, "-m", "services.inference"], home) as server:
        yield server


def drained(stack: Stack, recorder: Server) -> float:
    """Wait until all that was answered is recorded; returns how many seconds that took."""
    started = time.monotonic()
    while time.monotonic() < started + DRAIN_SECONDS:
        now = backlog(stack, recorder)
        if now.recorded >= now.answered:
            break
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - started


def backlog(stack: Stack, recorder: Server) -> Backlog:
    """Look where the answers of `stack` are."""
    recorded = counted(recorder, RECORDED)
    outbox, answered = (counted(stack.gateway, name) for name in ("predecir_outbox_pending", "predecir_answers_total"))
    return Backlog(time.monotonic(), answered, recorded, outbox, max(0, answered - recorded - outbox))


def counted(server: Server, name: str) -> int:
    """Read the metric `name` of `server`."""
    lines = server.get("/metrics").decode().splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith(f"{name} "))))


def cpu(process: psutil.Process) -> float:
    """Sum up `process` and those it started that still run."""
    return total(family(process), cpu_seconds)


def worked() -> float:
    """CPU seconds that the whole machine has worked up to now, whatever for; what a host above it took counts, too."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)
