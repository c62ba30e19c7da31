"""Kills of recorders between delivery, commit and acknowledgement."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import orjson

from chaos.failpoints.databases import Database
from chaos.failpoints.tally import Tally
from shared.contracts.gateway_proof import GatewayKey
from tests.support.broker import Broker, hand_over
from tests.support.enrolment import SECRET, enrolment
from tests.support.recorder_suite import delivery, event
from tests.support.waiting import until_now
from tests.support.zygote import Forked, Zygote

FAILPOINTS = ("recorder.write", "recorder.committed")
_LAST_PASS = 3
_EVENTS = 5
_SECONDS = 120
_ROWS = "SELECT id FROM predicciones UNION ALL SELECT prediccion_id FROM duplicados"


@dataclass(slots=True)
class Publisher:
    """Publishes events as a gateway's relay does, and remembers their ids."""

    broker: Broker
    numbers: Iterator[int]
    ids: list[str]
    key: GatewayKey

    def publish(self) -> None:
        """Publish one message of a few events and wait for its confirmation."""
        bodies = [event() for _ in range(_EVENTS)]
        asyncio.run(self._publish(bodies))
        self.ids += [orjson.loads(body)["id"] for body in bodies]

    def until_ended(self, process: Forked) -> None:
        """Publish until `process` is dead."""

        def ended() -> bool:
            self.publish()
            return process.code() is not None

        until_now(ended, seconds=_SECONDS)

    async def _publish(self, bodies: list[bytes]) -> None:
        gateway = self.key.gateway_id
        async with self.broker.transport(self.key, secret=SECRET) as transport:
            await hand_over(transport, [delivery(next(self.numbers), body, gateway=gateway) for body in bodies])


def hit(  # noqa: PLR0913 - how often, with what, from where, to where
    failpoint: str, hits: int, zygote: Zygote, *, broker: Broker, database: Database, folder: Path
) -> Tally:
    """Publish while the recorder kills itself and is restarted; compare the published and the recorded ids.

    `broker` and `database` must be new.
    """
    tally, passes = Tally(failpoint, f"server profile, {database.place}"), random.Random(0)  # noqa: S311 - when to die
    publisher = Publisher(broker, count(1), [], GatewayKey.generate())
    environment = {
        "BROKER_URL": broker.url,
        "BROKER_PREFIX": broker.topology.events.exchange,
        "DATABASE_URL": database.url,
        **enrolment(folder),
    }
    for _ in range(hits):
        armed = str(passes.randint(1, _LAST_PASS))
        process = tally.start(zygote, ["services.recorder"], folder, environment, armed=armed)
        publisher.until_ended(process)
        tally.hit(process)
    process = tally.start(zygote, ["services.recorder"], folder, environment)
    try:
        publisher.publish()  # the last in the queue: when it is recorded, so is every redelivery before it
        until_now(lambda: set(publisher.ids) <= set(database.query(_ROWS)), seconds=_SECONDS)
    except TimeoutError:
        pass  # the comparison names the missing ids
    finally:
        process.kill()
    tally.compare(publisher.ids, database.query(_ROWS))
    tally.doubled += int(database.query("SELECT count(*) FROM cuarentena")[0])
    return tally
