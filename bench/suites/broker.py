"""The event path through RabbitMQ, part by part: `python -m bench.suites.broker [EVENTS]` prints events per second.

It starts a RabbitMQ and a PostgreSQL server on free ports of loopback, and removes them at the end.
"""

import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.gateway.outbox.disk_guard import DiskGuard
from services.gateway.outbox.outbox import Outbox
from services.gateway.outbox.relay import Relay
from services.recorder.app import open_recorder
from services.recorder.ingest.consumer import Consumer
from services.recorder.ingest.trust import GatewayTrust, TrustPolicy
from services.recorder.settings import RecorderSettings
from shared.broker.topology import topology
from shared.cancellation import cancel_and_wait
from shared.contracts.gateway_proof import GatewayKey
from shared.contracts.transport import Delivery
from tests.support.broker import Broker
from tests.support.enrolment import SECRET
from tests.support.postgres import postgres_server
from tests.support.rabbitmq import rabbit_server
from tests.support.recorder_suite import event

_EVENTS = 20_000
_AT_ONCE = 100
_LOOK_SECONDS = 0.01
_RECORDED = "predecir_recorder_predictions_recorded_total"


class _Clock:
    """Wall-clock time and CPU time of this process since the object was created."""

    def __init__(self) -> None:
        self._started, self._cpu = time.perf_counter(), _cpu()

    def tell(self, what: str, events: int) -> None:
        seconds, cpu = time.perf_counter() - self._started, _cpu() - self._cpu
        print(f"{what:<52} {events / seconds:>8,.0f} events/s {cpu / events * 1e6:>5.0f} µs CPU per event")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - what is observed lies in metrics and outbox
        await asyncio.sleep(_LOOK_SECONDS)


async def _relay(broker: Broker, folder: Path, events: int, batch_events: int) -> None:
    outbox = await Outbox.open(folder / "outbox.db", keep_answers=60)
    for _ in range(0, events, _AT_ONCE):
        await asyncio.gather(*(outbox.append(event()) for _ in range(_AT_ONCE)))
    await broker.declare()
    async with broker.transport(*outbox.keys.values(), secret=SECRET) as transport:
        relay = Relay(
            outbox, transport, DiskGuard(folder, min_free_mb=1), batch_events=batch_events, linger_seconds=0.02
        )
        clock = _Clock()
        running = asyncio.create_task(relay.run())
        await _until(lambda: not outbox.pending)
        clock.tell(f"outbox to quorum queue, batches of {batch_events}", events)
        relay.stop()
        await running
    await outbox.close()


async def _record(broker: Broker, database: str, events: int, prefetch: int) -> None:
    registry = CollectorRegistry()
    async with open_recorder(RecorderSettings(database_url=database), registry) as recorder:
        trust = GatewayTrust(TrustPolicy(secret=SECRET), recorder.store)
        consumer = Consumer(broker.url, broker.topology, recorder.store, trust, prefetch=prefetch, silence_seconds=30)
        clock = _Clock()
        running = asyncio.create_task(consumer.run())
        await _until(lambda: registry.get_sample_value(_RECORDED) == events)
        clock.tell(f"full queue to {database.partition(':')[0]}, prefetch {prefetch}", events)
        await cancel_and_wait(running)


async def _small(broker: Broker, events: int) -> None:
    """Fill the queue with messages of one event, as a gateway under low load publishes them."""
    await broker.declare()
    key = GatewayKey.generate()
    async with broker.transport(key, secret=SECRET) as transport:
        await transport.publish([Delivery(key.gateway_id, 1, event())])
        clock = _Clock()
        for start in range(2, events + 1, _AT_ONCE):
            seqs = range(start, min(start + _AT_ONCE, events + 1))
            await asyncio.gather(*(transport.publish([Delivery(key.gateway_id, seq, event())]) for seq in seqs))
        clock.tell("quorum queue, one event a message", events)


def main() -> None:
    """Measure the relay, then a recorder alone on the full queue, with big and with small messages."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else _EVENTS
    with rabbit_server() as rabbit, postgres_server() as postgres, tempfile.TemporaryDirectory() as name:
        cases = [(1000, 5), (1000, 50), (200, 50), (1000, 50)]
        for number, (batch_events, prefetch) in enumerate(cases):
            folder = Path(name) / str(number)
            folder.mkdir()
            broker = Broker(rabbit, rabbit.url, topology(f"bench{number}"))
            asyncio.run(_relay(broker, folder, events, batch_events))
            last = number == len(cases) - 1
            database = f"sqlite:///{folder}/p.db" if last else postgres.url(postgres.new_database())
            asyncio.run(_record(broker, database, events, prefetch))
        for prefetch in (50, 500):
            broker = Broker(rabbit, rabbit.url, topology(f"small{prefetch}"))
            asyncio.run(_small(broker, events // 4))
            asyncio.run(_record(broker, postgres.url(postgres.new_database()), events // 4, prefetch))


if __name__ == "__main__":
    main()
