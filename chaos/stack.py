"""The server profile as deployed, on loopback: two of each service, HAProxy, RabbitMQ, PostgreSQL with fsync.

It is not `tests.support.stack.Stack`: there a replica is one process that ends once. Here a supervisor in the event
loop starts every process again on the same port, all traffic passes proxies, and clock and disk can be broken. A class
for both would have every field twice.
"""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import aiohttp

from chaos.supervised import Supervised
from chaos.surroundings import KINDS, Surroundings, surroundings
from shared.diseases.thyroid import DatosPaciente
from tests.support.bundles import make_bundle
from tests.support.enrolment import enrolment
from tests.support.haproxy import Pool, haproxy_command
from tests.support.waiting import until

_READY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Service:
    """One supervised replica and its port."""

    process: Supervised
    port: int

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class SupervisedStack:
    """The running profile: the services by kind, HAProxy in front of them at `url`, and their dependencies."""

    around: Surroundings
    url: str
    services: Mapping[str, tuple[Service, ...]]
    balancer: Supervised

    @property
    def processes(self) -> list[Supervised]:
        """Every supervised process."""
        return [service.process for replicas in self.services.values() for service in replicas] + [self.balancer]


@asynccontextmanager
async def supervised_stack(
    folder: Path, settings: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[SupervisedStack]:
    """Start the profile in `folder` with `settings`; yields it when every part is ready, and stops it at the end."""
    make_bundle(folder / "var", DatosPaciente)
    with surroundings(folder) as around:
        services = {kind: tuple(_service(around, kind, number, settings) for number in (1, 2)) for kind in KINDS}
        ports = {kind: [each.port for each in replicas] for kind, replicas in services.items()}
        pools = (
            Pool("gateways", around.ports["public"], ports["gateway"]),
            Pool("models", around.ports["models"], ports["inference"]),
        )
        balancer = Supervised("balancer", haproxy_command(folder, *pools), folder, announces=False)
        stack = SupervisedStack(around, f"http://127.0.0.1:{around.ports['public']}", services, balancer)
        async with _running(stack):
            yield stack


@asynccontextmanager
async def _running(stack: SupervisedStack) -> AsyncIterator[None]:
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
        **enrolment(around.folder),
        **settings,
    }
    if number == 1 and kind != "inference":
        environment |= around.clock.environment
    return Service(Supervised(name, (*prefix, sys.executable, "-m", f"services.{kind}"), home, environment), port)


async def answers(url: str) -> bool:
    """Return whether the service or HAProxy at `url` is ready."""
    timeout = aiohttp.ClientTimeout(total=5)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{url}/health/ready") as response:
            return response.status == 200  # noqa: PLR2004 - as HTTP has it
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
