"""The server profile as it is deployed, on loopback: two of each service, HAProxy, RabbitMQ, PostgreSQL with fsync."""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

from chaos.supervised import Supervised
from shared.diseases.thyroid import DatosPaciente
from tests.bundles import make_bundle
from tests.haproxy import Pool, haproxy_command
from tests.ports import free_ports
from tests.postgres import PostgresServer, postgres_server
from tests.rabbitmq import RabbitServer, rabbit_server
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

_READY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Service:
    """One supervised replica, and where it listens."""

    process: Supervised
    port: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything that runs. `starting` is held while somebody starts a server of it that does not do so by itself."""

    folder: Path
    url: str
    services: Mapping[str, tuple[Service, ...]]
    balancer: Supervised
    rabbit: RabbitServer
    postgres: PostgresServer
    database: str
    starting: Mapping[str, asyncio.Lock] = field(
        default_factory=lambda: {"broker": asyncio.Lock(), "database": asyncio.Lock()}
    )

    @property
    def processes(self) -> list[Supervised]:
        """All that is supervised."""
        return [service.process for replicas in self.services.values() for service in replicas] + [self.balancer]


@asynccontextmanager
async def server_stack(folder: Path) -> AsyncIterator[Stack]:
    """Start everything in `folder`, wait until it is ready, and stop it at the end."""
    make_bundle(folder / "var", DatosPaciente)
    with rabbit_server() as rabbit, postgres_server(durable=True) as postgres:
        stack = _described(folder, rabbit, postgres)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(process.run()) for process in stack.processes]
            try:
                await until(lambda: _answers(stack.url), seconds=_READY_SECONDS)
                for replicas in stack.services.values():
                    for service in replicas:
                        await until(lambda url=service.url: _answers(url), seconds=_READY_SECONDS)  # type: ignore[misc]
                yield stack
            finally:
                for task in running:
                    task.cancel()


def _described(folder: Path, rabbit: RabbitServer, postgres: PostgresServer) -> Stack:
    public, models, *ports = free_ports(8)
    database = postgres.new_database()
    environments = {
        "inference": {},
        "gateway": {"BROKER_URL": rabbit.url, "INFERENCE_URL": f"http://127.0.0.1:{models}"},
        "recorder": {"BROKER_URL": rabbit.url, "DATABASE_URL": postgres.url(database)},
    }
    services = {}
    for kind, environment in environments.items():
        services[kind] = tuple(_service(folder, kind, number, ports.pop(), environment) for number in (1, 2))
    replicas = {kind: [each.port for each in found] for kind, found in services.items()}
    command = haproxy_command(
        folder,
        Pool("gateways", public, replicas["gateway"]),
        Pool("models", models, replicas["inference"], repeatable=True),
    )
    balancer = Supervised("balancer", command, folder)
    return Stack(folder, f"http://127.0.0.1:{public}", services, balancer, rabbit, postgres, database)


def _service(folder: Path, kind: str, number: int, port: int, environment: Mapping[str, str]) -> Service:
    name = f"{kind}-{number}"
    home = folder / name
    home.mkdir()
    if kind == "inference":
        shutil.copytree(folder / "var", home / "var", symlinks=True)  # one model: a repeated key is one answer
    command = (sys.executable, "-m", f"services.{kind}")
    return Service(Supervised(name, command, home, {**environment, "PORT": str(port), "LOG_LEVEL": "warning"}), port)


async def _answers(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=5)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{url}/health/ready") as response:
            return response.status == 200  # noqa: PLR2004 - as HTTP has it
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
