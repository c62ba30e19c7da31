"""Kills of gateways and of the local profile between the steps from an answer to its row."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.failpoints.retrying_client import RetryingClient
from chaos.failpoints.tally import Tally
from shared.diseases.thyroid import DatosPaciente
from tests.support.broker import Broker
from tests.support.bundles import make_bundle
from tests.support.enrolment import enrolment
from tests.support.waiting import until_now
from tests.support.zygote import Zygote

SERVER = ("outbox.write", "outbox.written", "outbox.delete", "relay.handed-over", "broker.publish", "broker.published")
LOCAL = ("outbox.delete", "relay.handed-over", "recorder.write")
_LAST_PASS = 6
_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Profile:
    """The service to kill, its folder and settings, and the database of its answers."""

    service: str
    place: str
    folder: Path
    environment: dict[str, str]
    database: Path

    def recorded(self) -> list[str]:
        """Return the id of every row, and of every repetition with another seq."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=_SECONDS)) as connection:
            both = "SELECT id FROM predicciones UNION ALL SELECT prediccion_id FROM duplicados"
            return [row[0] for row in connection.execute(both)]


@contextmanager
def server_profile(zygote: Zygote, broker: Broker, folder: Path) -> Iterator[Profile]:
    """Run inference and a recorder behind `broker`, which has the queues; only the gateway is killed."""
    inference, recorder, gateway = (folder / name for name in ("inference", "recorder", "gateway"))
    for each in (inference, recorder, gateway):
        each.mkdir(parents=True)
    make_bundle(inference / "var", DatosPaciente)
    environment = {
        "BROKER_URL": broker.url,
        "BROKER_PREFIX": broker.topology.events.exchange,
        "RELAY_LINGER_MS": "20",
        **enrolment(folder),
    }
    with (
        zygote.running("services.recorder", recorder, environment),
        zygote.running("services.inference", inference) as model,
    ):
        environment["INFERENCE_URL"] = model.listens()
        yield Profile("services.gateway", "server profile", gateway, environment, recorder / "predicciones.db")


def local_profile(folder: Path) -> Profile:
    """Return the local profile, which runs everything in one process."""
    make_bundle(folder / "var", DatosPaciente)
    environment = {"RELAY_LINGER_MS": "20"}
    return Profile("services.local", "local profile", folder, environment, folder / "predicciones.db")


def hit(failpoint: str, hits: int, zygote: Zygote, profile: Profile, seed: int = 0) -> Tally:
    """Send requests while the process kills itself and is restarted; compare answers and rows."""
    tally, client, before = Tally(failpoint, profile.place), RetryingClient(failpoint), set(recorded_before(profile))
    passes = random.Random(seed)  # noqa: S311 - when to die, repeatably
    for _ in range(hits):
        armed = str(passes.randint(1, _LAST_PASS))
        process = tally.start(zygote, [profile.service], profile.folder, profile.environment, armed=armed)
        if (url := process.url()) is not None:
            client.send_until_cut(url)
        tally.hit(process)
    settle(tally, client, zygote, profile, before)
    return tally


def recorded_before(profile: Profile) -> list[str]:
    """Return the rows that an earlier failpoint left there."""
    return profile.recorded() if profile.database.exists() else []


def settle(tally: Tally, client: RetryingClient, zygote: Zygote, profile: Profile, before: set[str]) -> None:
    """Start it once more, complete all requests, wait until the backlog is empty, and compare."""
    process = tally.start(zygote, [profile.service], profile.folder, profile.environment)
    try:
        client.finish(process.listens())
        until_now(lambda: "predecir_outbox_pending 0.0" in process.get("/metrics").text, seconds=_SECONDS)
        until_now(lambda: set(client.answers.values()) <= set(profile.recorded()), seconds=_SECONDS)
    except TimeoutError:
        pass  # the comparison names the missing ids
    finally:
        process.kill()
    tally.compare(list(client.answers.values()), [one for one in profile.recorded() if one not in before])
    tally.doubled += client.contradicted
