"""Gateways, and the local profile, killed between the steps of an answer's way to the database."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.failpoints.doctors import Doctors
from chaos.failpoints.tally import Tally
from shared.diseases.thyroid import DatosPaciente
from tests.support.bundles import make_bundle
from tests.support.waiting import until_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.broker import Broker
    from tests.support.zygote import Zygote

SERVER = ("outbox.write", "outbox.written", "outbox.delete", "relay.handed-over", "broker.publish", "broker.published")
LOCAL = ("outbox.delete", "relay.handed-over", "recorder.write")
_LAST_PASS = 6
_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Profile:
    """What is killed, in which folder and with which settings, and where its answers end."""

    service: str
    place: str
    folder: Path
    environment: dict[str, str]
    database: Path

    def recorded(self) -> list[str]:
        """Read the id of every row, and of every repetition under another number."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=_SECONDS)) as connection:
            both = "SELECT id FROM predicciones UNION ALL SELECT prediccion_id FROM duplicados"
            return [row[0] for row in connection.execute(both)]


@contextmanager
def server_profile(zygote: Zygote, broker: Broker, folder: Path) -> Iterator[Profile]:
    """Run inference and a recorder behind `broker`, which has the queues; the gateway comes and goes."""
    inference, recorder, gateway = (folder / name for name in ("inference", "recorder", "gateway"))
    for each in (inference, recorder, gateway):
        each.mkdir(parents=True)
    make_bundle(inference / "var", DatosPaciente)
    environment = {"BROKER_URL": broker.url, "BROKER_PREFIX": broker.topology.events.exchange, "RELAY_LINGER_MS": "20"}
    with (
        zygote.running("services.recorder", recorder, environment),
        zygote.running("services.inference", inference) as model,
    ):
        environment["INFERENCE_URL"] = model.listens()
        yield Profile("services.gateway", "server profile", gateway, environment, recorder / "predicciones.db")


def local_profile(folder: Path) -> Profile:
    """Make ready to run everything in one process."""
    make_bundle(folder / "var", DatosPaciente)
    environment = {"RELAY_LINGER_MS": "20"}
    return Profile("services.local", "local profile", folder, environment, folder / "predicciones.db")


def hit(failpoint: str, hits: int, zygote: Zygote, profile: Profile, seed: int = 0) -> Tally:
    """Have doctors ask while the process kills itself and is started again; compare what was answered and recorded."""
    tally, doctors, before = Tally(failpoint, profile.place), Doctors(failpoint), set(recorded_before(profile))
    passes = random.Random(seed)  # noqa: S311 - when to die, repeatably
    for _ in range(hits):
        armed = str(passes.randint(1, _LAST_PASS))
        process = tally.start(zygote, [profile.service], profile.folder, profile.environment, armed=armed)
        if (url := process.url()) is not None:
            doctors.ask_until_cut(url)
        tally.hit(process)
    settle(tally, doctors, zygote, profile, before)
    return tally


def recorded_before(profile: Profile) -> list[str]:
    """Read what an earlier failpoint left there."""
    return profile.recorded() if profile.database.exists() else []


def settle(tally: Tally, doctors: Doctors, zygote: Zygote, profile: Profile, before: set[str]) -> None:
    """Start it once more, let everybody get an answer, and compare what is recorded once nothing waits any more."""
    process = tally.start(zygote, [profile.service], profile.folder, profile.environment)
    try:
        doctors.finish(process.listens())
        until_now(lambda: "predecir_outbox_pending 0.0" in process.get("/metrics").text, seconds=_SECONDS)
        until_now(lambda: set(doctors.answers.values()) <= set(profile.recorded()), seconds=_SECONDS)
    except TimeoutError:
        pass  # the comparison says what lacks
    finally:
        process.kill()
    tally.compare(list(doctors.answers.values()), [one for one in profile.recorded() if one not in before])
    tally.doubled += doctors.contradicted
