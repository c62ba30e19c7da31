"""Tests of `trigger` on a database that the recorder wrote, for SQLite and PostgreSQL."""

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from sqlalchemy import Connection

from services.recorder.db.database import open_database
from services.recorder.db.tables import PREDICCIONES
from services.recorder.ingest.store import Store
from services.recorder.metrics import Metrics
from shared.artifacts.bundle import Bundle, open_bundle
from shared.contracts.events import Feedback, write_feedback, write_prediction
from shared.contracts.scoring import ModelFacts, Score
from shared.contracts.transport import Delivery
from shared.database_url import read_url
from tests.support.bundles import PacienteDePrueba, make_bundle, random_rows
from training.commands.reproduce import row_hash
from training.commands.trigger import compare_recent
from training.config import Trigger
from training.data.distribution import describe
from training.errors import DatabaseError, RegistryError
from training.monitoring.drift import DriftFigure
from training.monitoring.predictions_db import open_predictions, parse_patient

LIMITS = Trigger(days=30, period_days=7, least=20, psi=0.25, missing=0.2, accuracy=0.85)
DIGEST = "d" * 64
EARLIER = "e" * 64
"""Digest of another model with the same version number, from a registry that was deleted."""
NOW = dt.datetime.now(dt.UTC)
SINCE = NOW - dt.timedelta(days=LIMITS.days)


@pytest.fixture(scope="session")
def production(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Version 1, trained on rows of `random_rows`; half of its answers are `enfermo`."""
    var = tmp_path_factory.mktemp("production") / "var"
    folder = make_bundle(var, PacienteDePrueba)
    bundle = open_bundle(folder, var / "keys/bundle.pub", patient_digest=PacienteDePrueba.digest)
    rows = np.array(random_rows(PacienteDePrueba, 2000), dtype=np.float32)
    reference = describe(rows, PacienteDePrueba.columns, {"sano": 0.5, "enfermo": 0.5})
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"reference": reference}), digest=DIGEST)


def model_info(name: str, digest: str = DIGEST) -> ModelFacts:
    return ModelFacts(
        name=name,
        version="1",
        digest=digest,
        patient_digest=PacienteDePrueba.digest,
        columns=(),
        classes=("sano", "enfermo"),
        prevalence={},
        low_prevalence=(),
        training_ranges={},
        never_missing=(),
    )


def prediction(  # noqa: PLR0913 - each is one fact of the answer
    seq: int,
    *,
    age: int,
    digest: str = DIGEST,
    model: str = "prueba",
    ill: bool = False,
    days_ago: float = 1,
    plausible: list[str] | None = None,
) -> Delivery:
    """One answer as a gateway delivers it; the patient is `age` years old and otherwise like the training cases."""
    body = write_prediction(
        event_id=str(uuid.UUID(int=seq)),
        source="g1",
        time=(NOW - dt.timedelta(days=days_ago)).isoformat(),
        inputs={
            "edad": age,
            "sexo": "F" if seq % 2 else "M",
            "glucosa": 10 + 9.9 * (seq % 100),
            "fumador": seq % 4 > 1,
        },
        output="enfermo" if ill else "sano",
        score=Score([0.2, 0.8] if ill else [0.8, 0.2], model_info(model, digest)),
        plausible=plausible,
    )
    return Delivery("g1", seq, body)


def outcome(seq: int, *, of: int, right: bool, minute: int) -> Delivery:
    feedback = Feedback(
        prediccion=str(uuid.UUID(int=of)), aceptada=right, diagnostico=None if right else "grave", motivo=None
    )
    time = (NOW + dt.timedelta(minutes=minute)).isoformat()
    return Delivery(
        "g1", seq, write_feedback(event_id=str(uuid.UUID(int=seq)), source="g1", time=time, feedback=feedback)
    )


async def record(url: str, *predictions: Delivery) -> None:
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - for this function alone

    async with open_database(read_url(url)) as database:
        await Store(database.writer, Metrics(CollectorRegistry())).record(predictions)


async def beyond(url: str, production: Bundle) -> tuple[int, list[str]]:
    compared = await compare_recent(read_url(url), PacienteDePrueba, production, LIMITS, SINCE)
    return compared.recent.predictions, [figure.name for figure in compared.figures if figure.beyond]


async def drift_figure(url: str, production: Bundle, name: str) -> DriftFigure:
    compared = await compare_recent(read_url(url), PacienteDePrueba, production, LIMITS, SINCE)
    [figure] = [figure for figure in compared.figures if figure.name == name]
    return figure


async def test_a_database_without_predictions_gives_no_figure(url: str, production: Bundle) -> None:
    await record(url)
    assert await beyond(url, production) == (0, [])


async def test_patients_of_another_age_are_drift(url: str, production: Bundle) -> None:
    await record(url, *[prediction(seq, age=seq % 121, ill=seq % 2 > 0) for seq in range(1, 201)])
    assert await beyond(url, production) == (200, [])
    await record(url, *[prediction(seq, age=119, ill=seq % 2 > 0) for seq in range(201, 401)])
    assert await beyond(url, production) == (400, ["edad.psi"])


async def test_only_this_model_and_the_last_days_count(url: str, production: Bundle) -> None:
    others = [prediction(seq, age=119, model="otra") for seq in range(1, 41)]
    old = [prediction(seq, age=119, days_ago=31) for seq in range(41, 81)]
    await record(url, *others, *old)
    assert await beyond(url, production) == (0, [])


async def test_only_answers_of_the_digest_in_production_count(url: str, production: Bundle) -> None:
    before = [prediction(seq, age=seq % 121, digest=EARLIER) for seq in range(1, 201)]
    await record(url, *before)
    assert await beyond(url, production) == (200, [])
    await record(url, *[prediction(seq, age=seq % 121) for seq in range(201, 301)])
    assert await beyond(url, production) == (300, ["answers.psi"])


async def test_only_the_feedback_recorded_last_on_a_prediction_counts(url: str, production: Bundle) -> None:
    answered = [prediction(seq, age=seq % 121, ill=seq % 2 > 0) for seq in range(1, 41)]
    other = [prediction(seq, age=seq % 121, digest=EARLIER) for seq in range(41, 81)]
    wrong_first = [outcome(900 + seq, of=seq, right=False, minute=2) for seq in range(1, 41)]
    right_then = [outcome(200 + seq, of=seq, right=True, minute=1) for seq in range(1, 37)]
    of_another_version = [outcome(300 + seq, of=seq, right=False, minute=1) for seq in range(41, 81)]
    await record(url, *answered, *other, *wrong_first, *right_then, *of_another_version)
    agreed = await drift_figure(url, production, "outcomes.accuracy")
    assert (agreed.figure, agreed.beyond) == (0.9, False)
    assert agreed.interval is not None
    assert agreed.interval[0] < 0.9 < agreed.interval[1]
    await record(url, *[outcome(400 + seq, of=seq, right=False, minute=3) for seq in range(1, 31)])
    decayed = await drift_figure(url, production, "outcomes.accuracy")
    assert (decayed.figure, decayed.beyond) == (0.15, True)


def changed(url: str, **values: object) -> Callable[[int], Awaitable[None]]:
    """Return a function that changes the row of a prediction after it was recorded."""

    def change(seq: int, connection: Connection) -> None:
        connection.execute(PREDICCIONES.update().where(PREDICCIONES.c.seq == seq).values(**values))

    async def run(seq: int) -> None:
        async with open_database(read_url(url)) as database:
            await database.writer.transaction(partial(change, seq))

    return run


@pytest.mark.parametrize(
    "values",
    [{"inputs": {"edad": 9999}}, {"inputs": []}, {"output": "bocio"}, {"plausibles": 7}],
    ids=["no patient", "no object", "no class", "no set"],
)
async def test_a_row_that_cannot_be_read_is_named_and_the_others_count(
    url: str, production: Bundle, values: dict[str, object]
) -> None:
    answered = [prediction(seq, age=seq % 121, ill=seq % 2 > 0, plausible=["sano"]) for seq in range(1, 201)]
    await record(url, *answered, *[outcome(900 + seq, of=seq, right=True, minute=1) for seq in range(1, 41)])
    await changed(url, **values)(7)

    compared = await compare_recent(read_url(url), PacienteDePrueba, production, LIMITS, SINCE)

    assert compared.unreadable == [str(uuid.UUID(int=7))]
    agreed = compared.figures[-1]
    conclusive = 39 if "plausibles" in values else 40
    assert (compared.recent.predictions, agreed.count) == (200 if "plausibles" in values else 199, conclusive)


async def test_only_the_newest_rows_of_the_window_are_read(url: str, production: Bundle) -> None:
    await record(url, *[prediction(seq, age=200 if seq <= 40 else 40, days_ago=9 - seq / 10) for seq in range(1, 91)])
    compared = await compare_recent(read_url(url), PacienteDePrueba, production, LIMITS, SINCE, 50)
    assert (compared.recent.predictions, compared.unreadable) == (50, [])
    everything = await compare_recent(read_url(url), PacienteDePrueba, production, LIMITS, SINCE)
    assert (everything.recent.predictions, len(everything.unreadable)) == (50, 40)


async def test_one_correction_is_too_few_to_count(url: str, production: Bundle) -> None:
    await record(url, prediction(1, age=40), outcome(901, of=1, right=False, minute=1))
    alone = await drift_figure(url, production, "outcomes.accuracy")
    assert (alone.count, alone.figure, alone.beyond) == (1, None, False)


async def test_outcomes_of_inconclusive_answers_do_not_count(url: str, production: Bundle) -> None:
    for seq, plausible in enumerate(([["sano", "enfermo"]] * 30) + ([["sano"], None] * 10), start=1):
        right = plausible != ["sano", "enfermo"]
        answered = prediction(seq, age=seq % 121, plausible=plausible)
        await record(url, answered, outcome(900 + seq, of=seq, right=right, minute=1))
    conclusive = await drift_figure(url, production, "outcomes.accuracy")
    assert (conclusive.count, conclusive.figure, conclusive.beyond) == (20, 1.0, False)


async def test_a_prediction_is_read_by_its_id(url: str) -> None:
    await record(url, *[prediction(seq, age=40, ill=True) for seq in range(1, 4)])
    async with open_predictions(read_url(url)) as database:
        recorded = await database.prediction(str(uuid.UUID(int=2)))
        assert await database.prediction(str(uuid.UUID(int=9))) is None
    assert recorded is not None
    patient = parse_patient(PacienteDePrueba, recorded.inputs)
    assert patient.encode() == [40.0, 1.0, 29.8, 1.0]
    assert (recorded.id, recorded.output, recorded.version, recorded.gateway) == (
        str(uuid.UUID(int=2)),
        "enfermo",
        "1",
        "g1",
    )
    assert row_hash(recorded, model_info("prueba"), patient) == recorded.hash
    assert row_hash(recorded._replace(output="sano"), model_info("prueba"), patient) != recorded.hash


async def test_a_model_without_training_distribution_is_one_error_line(url: str, production: Bundle) -> None:
    with pytest.raises(RegistryError, match="train it again"):
        await beyond(url, replace(production, manifest=production.manifest.model_copy(update={"reference": None})))


async def test_a_database_of_another_program_is_an_error_without_password(url: str, production: Bundle) -> None:
    with pytest.raises(DatabaseError) as caught:
        await beyond(url, production)
    assert len(str(caught.value).splitlines()) == 1
    assert "predicciones" in str(caught.value)
    assert "@" not in str(caught.value)
