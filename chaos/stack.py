"""The server profile as it is deployed, on loopback: two of each service, HAProxy, RabbitMQ, PostgreSQL with fsync."""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import aiohttp

from chaos.supervised import Supervised
from chaos.surroundings import KINDS, Surroundings, surroundings
from shared.diseases.thyroid import DatosPaciente
from tests.support.bundles import make_bundle
from tests.support.haproxy import Pool, haproxy_command
from tests.support.waiting import until

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
    """Everything that runs: the services by kind, HAProxy before them at `url`, and what they depend on."""

    around: Surroundings
    url: str
    services: Mapping[str, tuple[Service, ...]]
    balancer: Supervised

    @property
    def processes(self) -> list[Supervised]:
        """All that is supervised."""
        return [service.process for replicas in self.services.values() for service in replicas] + [self.balancer]


@asynccontextmanager
async def server_stack(folder: Path, settings: Mapping[str, str] = MappingProxyType({})) -> AsyncIterator[Stack]:
    """Start everything in `folder` with `settings`, wait until it is ready, and stop it at the end."""
    make_bundle(folder / "var", DatosPaciente)
    with surroundings(folder) as around:
        services = {kind: tuple(_service(around, kind, number, settings) for number in (1, 2)) for kind in KINDS}
        ports = {kind: [each.port for each in found] for kind, found in services.items()}
        pools = (
            Pool("gateways", around.ports["public"], ports["gateway"]),
            Pool("models", around.ports["models"], ports["inference"]),
        )
        balancer = Supervised("balancer", haproxy_command(folder, *pools), folder, announces=False)
        stack = Stack(around, f"http://127.0.0.1:{around.ports['public']}", services, balancer)
        async with _running(stack):
            yield stack


@asynccontextmanager
async def _running(stack: Stack) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(process.run()) for process in stack.processes]
        try:
            for url in (stack.url, *(each.url for replicas in stack.services.values() for each in replicas)):
                await until(partial(answers, url), seconds=_READY_SECONDS)
            yield
        finally:
            for task in running:
                task.cancel()


def _service(around: Surroundings, kind: str, number: int, settings: Mapping[str, str]) -> Service:
    name = f"{kind}-{number}"
    home = around.folder / name
    home.mkdir(exist_ok=True)
    if kind == "inference":
        shutil.copytree(around.folder / "var", home / "var", symlinks=True)  # one model: a repeated key is one answer
    prefix = around.disk.prefix if around.disk.home == home else ()
    port = around.ports[name]
    environment = {
        "PORT": str(port),
        "LOG_LEVEL": "warning",
        "INFERENCE_URL": f"http://127.0.0.1:{around.legs['gateway-inference'].port}",
        "BROKER_URL": around.broker_url("gateway-broker" if kind == "gateway" else "recorder-broker"),
        "DATABASE_URL": around.database_url("recorder-database"),
        **settings,
    }
    if number == 1 and kind != "inference":
        environment |= around.clock.environment
    return Service(Supervised(name, (*prefix, sys.executable, "-m", f"services.{kind}"), home, environment), port)


async def answers(url: str) -> bool:
    """Whether a service or HAProxy at `url` is ready."""
    timeout = aiohttp.ClientTimeout(total=5)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{url}/health/ready") as response:
            return response.status == 200  # noqa: PLR2004 - as HTTP has it
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
