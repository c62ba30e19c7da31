"""Made-up rows of predictions and feedback, as a recorder writes them; the same for the same numbers.

Making up a row takes longer than recording it. For very many rows, `repeated` repeats the first ones at later times.
"""

import functools
import hashlib
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from services.recorder.db.rows import FeedbackRow, PredictionRow
from shared.diseases.thyroid import DatosPaciente
from shared.patient import Feature

START = datetime(2026, 1, 1, tzinfo=UTC)
PATIENTS = 20_000
"""Number of different patients."""
_AFTER = 10**9
"""Offset of the numbers of feedback, above those of predictions."""
_EVERY_SECONDS = 20
_PER_VERSION = 200_000
"""Predictions per version of the model."""
_POOL = 10_000
"""Number of different rows of `repeated`."""
_SHARES = (70, 8, 6, 6, 4, 3, 3)


def made_up(first: int, number: int) -> Iterator[PredictionRow]:
    """Yield `number` predictions from number `first` (from 1), 20 seconds apart."""
    classes = DatosPaciente.disease.classes
    for seq in range(first, first + number):
        rng = random.Random(seq)  # noqa: S311 - made-up patients, not keys
        inputs = orjson.dumps({feature.name: _value(feature, rng) for feature in DatosPaciente.features})
        output = rng.choices(classes, _SHARES)[0]
        probability = 0.5 + rng.random() / 2
        others = {name: (1 - probability) / (len(classes) - 1) for name in classes}
        moment = START + timedelta(seconds=_EVERY_SECONDS * seq, microseconds=rng.randrange(10**6))
        yield PredictionRow(
            id=_uuid7(moment, rng),
            timestamp=moment,
            inputs=inputs.decode(),
            output=output,
            probabilidad=probability,
            probabilidades=orjson.dumps(others | {output: probability}).decode(),
            modelo=DatosPaciente.disease.name,
            modelo_version=str(1 + seq // _PER_VERSION),
            modelo_digest="d" * 64,
            paciente_digest=DatosPaciente.digest,
            gateway_id=f"gateway-{seq % 2}",
            seq=seq,
            hash=hashlib.sha256(inputs).hexdigest(),
            referencia=reference_of(rng.randrange(PATIENTS)),
            plausibles=orjson.dumps([output]).decode(),
            registrado=moment,
            clave_id=key_of(seq),
            body=b"",
        )


def feedback_of(rows: Sequence[PredictionRow]) -> Iterator[FeedbackRow]:
    """Yield feedback an hour later on every third of `rows`; every tenth of these corrects the diagnosis."""
    for row in rows:
        if row.seq % 3:
            continue
        rng = random.Random(-row.seq)  # noqa: S311 - the same
        moment, accepted = row.timestamp + timedelta(hours=1), row.seq % 30 != 0
        diagnosis = None if accepted else rng.choice(DatosPaciente.disease.classes)
        yield FeedbackRow(
            id=_uuid7(moment, rng),
            prediccion_id=row.id,
            aceptada=accepted,
            diagnostico=diagnosis,
            motivo=None,
            timestamp=moment,
            gateway_id=row.gateway_id,
            seq=row.seq + _AFTER,
            hash=row.hash,
            registrado=moment,
            clave_id=key_of(row.seq),
            body=b"",
        )


def repeated(first: int, number: int) -> Iterator[PredictionRow]:
    """Yield `number` predictions as `made_up` does; after `_POOL` rows, patients and answers repeat."""
    pool = _pool()[0]
    for seq in range(first, first + number):
        rounds, place = divmod(seq - 1, _POOL)
        row = pool[place]
        later = _EVERY_SECONDS * rounds * _POOL
        row_id, moment = _later(row.id, later), row.timestamp + timedelta(seconds=later)
        yield replace(row, id=row_id, timestamp=moment, seq=seq, modelo_version=str(1 + seq // _PER_VERSION))


def repeated_feedback_of(rows: Sequence[PredictionRow]) -> Iterator[FeedbackRow]:
    """Yield the feedback on `repeated` rows, as `feedback_of` does."""
    feedback = _pool()[1]
    for row in rows:
        rounds, place = divmod(row.seq - 1, _POOL)
        if (template := feedback.get(place)) is None:
            continue
        later = _EVERY_SECONDS * rounds * _POOL
        yield replace(
            template,
            id=_later(template.id, later),
            timestamp=template.timestamp + timedelta(seconds=later),
            prediccion_id=row.id,
            seq=row.seq + _AFTER,
        )


@functools.cache
def _pool() -> tuple[list[PredictionRow], dict[int, FeedbackRow]]:
    rows = list(made_up(1, _POOL))
    return rows, {each.seq - _AFTER - 1: each for each in feedback_of(rows)}


def key_of(seq: int) -> str | None:
    """Return the id of the key that asked with number `seq`: one of a few, or none."""
    return f"{seq % 5:012x}" if seq % 5 else None


def reference_of(patient: int) -> str:
    """Return the hash of the reference of one of the `PATIENTS`."""
    return hashlib.sha256(str(patient).encode()).hexdigest()


def _uuid7(moment: datetime, rng: random.Random) -> str:
    milliseconds = int(moment.timestamp() * 1000)
    bits = (milliseconds << 80) | (7 << 76) | (rng.getrandbits(12) << 64) | (2 << 62) | rng.getrandbits(62)
    return str(uuid.UUID(int=bits))


def _later(identifier: str, seconds: int) -> str:
    """Return the UUIDv7 with the same random part, `seconds` later."""
    moment = f"{int(identifier[:8] + identifier[9:13], 16) + 1000 * seconds:012x}"
    return f"{moment[:8]}-{moment[8:]}{identifier[13:]}"


def _value(feature: Feature, rng: random.Random) -> Any:  # noqa: ANN401 - of the feature's type
    if feature.kind == "flag":
        return rng.random() < 0.1
    if feature.kind == "choice":
        return rng.choice([*feature.choices, None])
    low, high = feature.reference or feature.limits or (0, 1)
    value = rng.uniform(low, high)
    return int(value) if feature.kind == "integer" else round(value, rng.randrange(1, 6))
