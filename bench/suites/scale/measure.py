"""The bytes of a prediction on the broker, in PostgreSQL and in the outbox."""

import asyncio
import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from services.gateway.ids import keyed_id
from services.gateway.outbox.database import IdempotencyRecord, OutboxFile
from services.recorder.db.database import open_database
from services.recorder.db.rows import PredictionRow
from services.recorder.ingest.writes import write_batch
from shared.contracts.events import write_prediction
from shared.contracts.scoring import ModelFacts, Score
from shared.database_url import read_url
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.rows import made_up

_ROWS, _BATCH = 20_000, 500
_DAY = 86400


def bytes_each() -> dict[str, float]:
    """Bytes of a prediction: its `event`, its `row` in PostgreSQL with indexes, and what it writes ahead (`log`)."""
    rows = [row for first in range(1, _ROWS + 1, _BATCH) for row in made_up(first, _BATCH)]
    events = [_event(row) for row in rows[:_BATCH]]
    with postgres_server(durable=True) as server:
        name = server.new_database()
        stored = asyncio.run(_stored(server, name, rows))
    return {"event": sum(map(len, events)) / len(events), **stored}


def keyed_bytes(folder: Path, answer: int) -> dict[str, float]:
    """Bytes of a request with an `Idempotency-Key` in the outbox, while its `answer` is kept."""
    path = folder / "keyed.db"
    file = OutboxFile(path, keep_answers=_DAY)
    for first in range(0, _ROWS, _BATCH):
        keys = (keyed_id("medico", f"consulta-{number}") for number in range(first, first + _BATCH))
        file.write([(b"{}", IdempotencyRecord(key, bytes(32), bytes(answer))) for key in keys], first + 1)
        file.delete(file.gateway_id, [first + 1])
    file.connection.execute("VACUUM")
    file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()
    return {"kept_answer": path.stat().st_size / _ROWS}


def _event(row: PredictionRow) -> bytes:
    probabilities: dict[str, float] = json.loads(row.probabilidades)
    model = ModelFacts(
        name=row.modelo,
        version=row.modelo_version,
        digest=row.modelo_digest,
        patient_digest=row.paciente_digest,
        columns=(),
        classes=tuple(probabilities),
        prevalence={},
        low_prevalence=(),
        training_ranges={},
        never_missing=(),
    )
    return write_prediction(
        event_id=str(row.id),
        source=f"/gateway/{row.gateway_id}",
        time=row.timestamp.isoformat(),
        inputs=json.loads(row.inputs),
        output=row.output,
        score=Score(list(probabilities.values()), model),
        reference=row.referencia,
        plausible=[row.output],
    )


async def _stored(server: PostgresServer, name: str, rows: list[PredictionRow]) -> dict[str, float]:
    """Record `rows` as a recorder does; return the bytes per row of table and WAL."""
    async with open_database(read_url(server.url(name))) as database:
        [begun] = server.query(name, "SELECT pg_current_wal_lsn()::text")
        for first in range(0, len(rows), _BATCH):
            batch = rows[first : first + _BATCH]
            await database.writer.transaction(partial(write_batch, rows=batch, dead_letters=(), now=datetime.now(UTC)))
        [logged] = server.query(name, f"SELECT (pg_current_wal_lsn() - '{begun}'::pg_lsn)::float8")
        [size] = server.query(name, "SELECT pg_total_relation_size('predicciones')")
    return {"row": size / len(rows), "log": logged / len(rows)}
