"""What the services depend on and what can be broken of it: broker, database, the network, a disk and a clock."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos.faults.clock import Clock
from chaos.faults.disk import SmallDisk, small_disk
from tests.support.ports import free_ports
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.proxy import Proxy, proxied
from tests.support.rabbitmq import RabbitServer, rabbit_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LEGS = ("gateway-inference", "gateway-broker", "recorder-broker", "recorder-database")
"""From which part to which other one."""
KINDS = ("inference", "gateway", "recorder")
PORTS = ("public", "models", *(f"{kind}-{number}" for kind in KINDS for number in (1, 2)))
"""Who listens: HAProxy for doctors and for gateways, and two services of each kind."""
_DISK_MIB = 192


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`legs` are the ways between two parts, through proxies; `ports` are for those of `PORTS`.

    The second gateway's outbox is on `disk`; the first gateway and the first recorder live by `clock`. A lock of
    `starting` is held while a server is down that somebody has to start again.
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
        """Give the broker's URL by way of `leg`."""
        return self.rabbit.url.replace(f":{self.rabbit.port}/", f":{self.legs[leg].port}/")

    def database_url(self, leg: str) -> str:
        """Give the database's URL by way of `leg`."""
        url = self.postgres.url(self.database)
        return url.replace(f":{self.postgres.port}/", f":{self.legs[leg].port}/")


@contextmanager
def surroundings(folder: Path) -> Iterator[Surroundings]:
    """Start servers and proxies, with what they keep in temporary folders; the rest is under `folder`."""
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
