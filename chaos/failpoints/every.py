"""All failpoints, each with what it needs around it, on two lanes side by side: most of the time is waiting."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

from chaos.failpoints import checkpoint, migrating, promoting, recording, serving, swapping
from chaos.failpoints.databases import Database, Postgres, Sqlite
from chaos.failpoints.modules import SERVICES, TRAINING
from shared.topology import topology
from tests.broker import Broker
from tests.model_registry import model_registry
from tests.postgres import PostgresServer, postgres_server
from tests.rabbitmq import RabbitServer, rabbit_server
from tests.zygote import Zygote, zygote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from chaos.failpoints.tally import Tally


def new_broker(rabbit: RabbitServer) -> Broker:
    """Declare queues of one's own."""
    broker = Broker(rabbit, rabbit.url, topology(f"t-{secrets.token_hex(6)}"))
    asyncio.run(broker.declare())
    return broker


def every(hits: int, folder: Path, told: Callable[[Tally], None]) -> None:
    """Hit every failpoint `hits` times, with all state in `folder`; `told` hears of each, from either lane.

    Raises:
        NotHitError: a process did not die where it should have.

    """
    with rabbit_server() as rabbit, zygote(*SERVICES) as services, ThreadPoolExecutor(2) as threads:
        answers = chain(_server(hits, services, rabbit, folder / "server"), _local(hits, services, folder / "local"))
        data = chain(
            _databases(hits, services, rabbit, folder / "databases"), _models(hits, services, folder / "models")
        )
        for lane in [threads.submit(_along, lane, told) for lane in (answers, data)]:
            lane.result()


def _along(lane: Iterable[Tally], told: Callable[[Tally], None]) -> None:
    for tally in lane:
        told(tally)


def _server(hits: int, services: Zygote, rabbit: RabbitServer, folder: Path) -> Iterator[Tally]:
    with serving.server_profile(services, new_broker(rabbit), folder) as profile:
        for failpoint in serving.SERVER:
            yield serving.hit(failpoint, hits, services, profile)


def _local(hits: int, services: Zygote, folder: Path) -> Iterator[Tally]:
    profile = serving.local_profile(folder)
    for failpoint in serving.LOCAL:
        yield serving.hit(failpoint, hits, services, profile)
    for failpoint in checkpoint.FILES:
        yield checkpoint.hit(failpoint, hits, services, profile, SERVICES)


def _databases(hits: int, services: Zygote, rabbit: RabbitServer, folder: Path) -> Iterator[Tally]:
    folder.mkdir()
    with postgres_server() as postgres:
        yield from _killed_over(hits, services, rabbit, postgres, folder)


def _killed_over(
    hits: int, services: Zygote, rabbit: RabbitServer, postgres: PostgresServer, folder: Path
) -> Iterator[Tally]:
    def sqlite() -> Database:
        return Sqlite(folder / f"{secrets.token_hex(6)}.db")

    def postgresql() -> Database:
        return Postgres(postgres, postgres.new_database())

    for failpoint in recording.FAILPOINTS:
        for new in (sqlite, postgresql):
            broker = new_broker(rabbit)
            yield recording.hit(failpoint, hits, services, broker=broker, database=new(), folder=folder)
    for failpoint in migrating.MIGRATIONS:
        for new in (sqlite, postgresql):
            yield migrating.hit_migration(failpoint, hits, services, new(), folder)
    for failpoint in migrating.COPIES:
        yield migrating.hit_copy(failpoint, hits, services, source=sqlite(), empty=postgresql(), folder=folder)


def _models(hits: int, services: Zygote, folder: Path) -> Iterator[Tally]:
    (folder / "registry").mkdir(parents=True)
    with model_registry(folder / "registry") as registry:
        replica = swapping.Replica(registry, folder / "replica")
        for failpoint in swapping.PASSES:
            yield swapping.hit(failpoint, hits, services, replica)
    with zygote(*TRAINING) as training:
        site = promoting.Site(folder / "site", training)
        for failpoint in promoting.FAILPOINTS:
            yield promoting.hit(failpoint, hits, site)
