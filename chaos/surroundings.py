"""Dependencies of the services that the rig can break: broker, database, network, a disk and a clock."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chaos.faults.clock import Clock
from chaos.faults.disk import SmallDisk, small_disk
from chaos.programs import CLOCK, SERVERS, require
from tests.support.faulty_network import Proxy, proxied
from tests.support.ports import free_ports
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.rabbitmq import RabbitServer, rabbit_server

LEGS = ("gateway-inference", "gateway-broker", "recorder-broker", "recorder-database")
"""Legs of the network, from one part to another."""
KINDS = ("inference", "gateway", "recorder")
PORTS = ("public", "models", *(f"{kind}-{number}" for kind in KINDS for number in (1, 2)))
"""Listeners: HAProxy for doctors and for gateways, and two services of each kind."""
_DISK_MIB = 192


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The running dependencies. `legs` are the proxies between two parts; `ports` are those of `PORTS`.

    The second gateway's outbox is on `disk`; the first gateway and the first recorder use `clock`. A lock of
    `starting` is locked while a server is down until the rig has restarted it.
    """

    folder: Path
    rabbit: RabbitServer
    postgres: PostgresServer
    database: str
    ports: Mapping[str, int]
    legs: Mapping[str, Proxy]
    disk: SmallDisk
    clock: Clock
    starting: Mapping[str, asyncio.Lock] = field(
        default_factory=lambda: {"broker": asyncio.Lock(), "database": asyncio.Lock()}
    )

    def broker_url(self, leg: str) -> str:
        """Return the broker's URL through `leg`."""
        return self.rabbit.url.replace(f":{self.rabbit.port}/", f":{self.legs[leg].port}/")

    def database_url(self, leg: str) -> str:
        """Return the database's URL through `leg`."""
        url = self.postgres.url(self.database)
        return url.replace(f":{self.postgres.port}/", f":{self.legs[leg].port}/")


@contextmanager
def surroundings(folder: Path) -> Iterator[Surroundings]:
    """Start servers and proxies; their state is in temporary folders, everything else under `folder`.

    Raises:
        UnavailableError: a program is missing on this machine.

    """
    require(*SERVERS, CLOCK)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    with ExitStack() as opened:
        rabbit = opened.enter_context(rabbit_server())
        postgres = opened.enter_context(postgres_server(durable=True))
        ends = (ports["models"], rabbit.port, rabbit.port, postgres.port)
        legs = {name: opened.enter_context(proxied(port)) for name, port in zip(LEGS, ends, strict=True)}
        home = folder / "gateway-2"
        disk = opened.enter_context(small_disk(home, home / "var" / "gateway", mib=_DISK_MIB))
        clock = Clock(folder / "clock")
        clock.set(0)
        yield Surroundings(folder, rabbit, postgres, postgres.new_database(), ports, legs, disk, clock)
