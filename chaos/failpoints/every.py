"""All failpoints, each with its services, on parallel lanes: much of the time is waiting."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from chaos.failpoints import checkpoint, migrating, promoting, recording, serving, swapping
from chaos.failpoints.databases import Postgres, Sqlite
from chaos.failpoints.modules import SERVICES, TRAINING
from chaos.failpoints.tally import STOPPING, Tally
from shared.broker.topology import topology
from tests.support.broker import Broker
from tests.support.model_registry import model_registry
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.rabbitmq import RabbitServer, rabbit_server
from tests.support.zygote import Zygote, zygote

_PLACES = Counter((*serving.SERVER, *serving.LOCAL, *(recording.FAILPOINTS + migrating.MIGRATIONS) * 2))
"""Number of places of each failpoint that has more than one."""


def new_broker(rabbit: RabbitServer) -> Broker:
    """Return a broker with new queue names."""
    broker = Broker(rabbit, rabbit.url, topology(f"t-{secrets.token_hex(6)}"))
    asyncio.run(broker.declare())
    return broker


def new_database(postgres: PostgresServer) -> Postgres:
    """Return a new, empty database."""
    return Postgres(postgres, postgres.new_database())


def every(hits: int, folder: Path, report: Callable[[Tally], None]) -> None:
    """Hit every failpoint `hits` times, shared among its places, in `folder`; pass each tally to `report`.

    Raises:
        NotHitError: a process did not die where it should have.

    """
    with rabbit_server() as rabbit, zygote(*SERVICES) as services:
        lanes = (
            chain(_server(hits, services, rabbit, folder / "server"), _local(hits, services, folder / "local")),
            chain(_databases(hits, services, rabbit, folder / "databases"), _promotions(hits, folder / "site")),
            _models(hits, services, folder / "models"),
        )
        with ThreadPoolExecutor(len(lanes)) as threads:
            running = [threads.submit(_along, lane, report) for lane in lanes]
            try:
                for lane in running:
                    lane.result()
            except BaseException:
                STOPPING.set()
                raise


def _along(lane: Iterable[Tally], report: Callable[[Tally], None]) -> None:
    for tally in lane:
        report(tally)


def _share(hits: int, failpoint: str) -> int:
    """Return the share of the hits of `failpoint` for each of its places."""
    return -(-hits // _PLACES.get(failpoint, 1))


def _server(hits: int, services: Zygote, rabbit: RabbitServer, folder: Path) -> Iterator[Tally]:
    with serving.server_profile(services, new_broker(rabbit), folder) as profile:
        for failpoint in serving.SERVER:
            yield serving.hit(failpoint, _share(hits, failpoint), services, profile)


def _local(hits: int, services: Zygote, folder: Path) -> Iterator[Tally]:
    profile = serving.local_profile(folder)
    for failpoint in serving.LOCAL:
        yield serving.hit(failpoint, _share(hits, failpoint), services, profile)
    for failpoint in checkpoint.FILES:
        yield checkpoint.hit(failpoint, hits, services, profile, SERVICES)


def _databases(hits: int, services: Zygote, rabbit: RabbitServer, folder: Path) -> Iterator[Tally]:
    folder.mkdir()
    with postgres_server() as postgres:
        for new in (lambda: Sqlite(folder / f"{secrets.token_hex(6)}.db"), lambda: new_database(postgres)):
            for failpoint in recording.FAILPOINTS:
                broker, share = new_broker(rabbit), _share(hits, failpoint)
                yield recording.hit(failpoint, share, services, broker=broker, database=new(), folder=folder)
            for failpoint in migrating.MIGRATIONS:
                yield migrating.hit_migration(failpoint, _share(hits, failpoint), services, new(), folder)
        for failpoint in migrating.COPIES:
            source, empty = Sqlite(folder / f"{failpoint}.db"), new_database(postgres)
            yield migrating.hit_copy(failpoint, hits, services, source=source, empty=empty, folder=folder)


def _models(hits: int, services: Zygote, folder: Path) -> Iterator[Tally]:
    (folder / "registry").mkdir(parents=True)
    with model_registry(folder / "registry") as registry:
        replica = swapping.Replica(registry, folder / "replica")
        for failpoint in swapping.PASSES:
            yield swapping.hit(failpoint, hits, services, replica)


def _promotions(hits: int, folder: Path) -> Iterator[Tally]:
    with zygote(*TRAINING) as training:
        site = promoting.Site(folder, training)
        for failpoint in promoting.FAILPOINTS:
            yield promoting.hit(failpoint, hits, site)
