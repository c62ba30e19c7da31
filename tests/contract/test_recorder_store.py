"""The contract of the store on SQLite, and properties of SQLite only."""

import os
import re
import resource
import sqlite3
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import select

from services.recorder.api.models import Filtro
from services.recorder.api.queries import read_page
from services.recorder.db.database import open_database
from services.recorder.db.tables import PREDICCIONES
from services.recorder.ingest.writes import touch
from shared.contracts.transport import TransportDownError
from shared.database_url import read_url
from shared.web.hosting import StartError
from tests.support.recorder_suite import *  # noqa: F403 - the suite itself
from tests.support.recorder_suite import START, Recording, delivery, event, recording
from tests.support.reports_suite import *  # noqa: F403 - the suite of reports
from tests.support.targets import SqliteTarget, Target


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return SqliteTarget(tmp_path / "predicciones.db")


async def test_the_store_recovers_after_a_full_disk(recorder: Recording, tmp_path: Path) -> None:
    await recorder.store.record([delivery(1)])
    size = (tmp_path / "predicciones.db-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(TransportDownError, match="the database cannot be written"):
            await recorder.store.record([delivery(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert await recorder.store.record([delivery(2)]) == {2}
    assert [row.seq for row in await recorder.rows()] == [1, 2]


@pytest.fixture
def locked_file(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A new file that another recorder is creating; closing the connection ends that."""
    other = sqlite3.connect(tmp_path / "predicciones.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


async def test_opening_waits_for_the_lock_of_another_start(target: Target, locked_file: sqlite3.Connection) -> None:
    released = threading.Event()

    def release() -> None:
        released.set()
        locked_file.close()

    threading.Timer(0.2, release).start()  # opening blocks the loop of this thread
    async with recording(target, busy_seconds=60) as recorder:
        assert released.is_set()
        assert await recorder.store.record([delivery(1)]) == {1}


@pytest.mark.usefixtures("locked_file")
async def test_opening_a_file_that_stays_locked_fails_in_time(target: Target, tmp_path: Path) -> None:
    with pytest.raises(StartError) as caught:
        async with recording(target, busy_seconds=0.05):
            pass
    path = tmp_path / "predicciones.db"
    assert str(caught.value) == (
        f"cannot use the database {path}: database is locked; check its permissions and its disk"
    )


async def test_a_second_writer_of_the_file_is_refused_but_a_reader_is_not(recorder: Recording, target: Target) -> None:
    await recorder.store.record([delivery(1)])
    with pytest.raises(StartError, match="another Predecir has this database open; stop it first"):
        async with recording(target):
            pass
    async with open_database(read_url(target.url), writes=False) as second:
        async with second.readers.connect() as connection:
            assert len((await connection.execute(select(PREDICCIONES))).all()) == 1
        with pytest.raises(OSError, match="another process has"):
            await second.writer.transaction(touch)
    assert await recorder.store.record([delivery(2)]) == {2}


async def test_the_files_are_readable_by_their_owner_only(recorder: Recording, tmp_path: Path) -> None:
    await recorder.store.record([delivery(1)])

    modes = {entry.name: entry.stat().st_mode & 0o777 for entry in os.scandir(tmp_path)}
    assert modes == dict.fromkeys((f"predicciones.db{kind}" for kind in ("", "-wal", "-shm", "-lock")), 0o600)


async def test_times_are_text_that_sorts(recorder: Recording, tmp_path: Path) -> None:
    await recorder.store.record([delivery(1)])

    other = sqlite3.connect(tmp_path / "predicciones.db")
    row = other.execute("SELECT timestamp, typeof(probabilidad), inputs ->> 'edad' FROM predicciones").fetchone()
    other.close()
    assert row == ("2026-03-01T12:00:00.000000Z", "real", 41)


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "ix_predicciones_timestamp"),
        ({"desde": START, "hasta": START + timedelta(days=1)}, "ix_predicciones_timestamp"),
        ({"output": "negativo"}, "ix_predicciones_output_timestamp"),
        ({"modelo_version": "3", "desde": START}, "ix_predicciones_modelo_version_timestamp"),
        ({"referencia": "5f" * 32}, "ix_predicciones_referencia_timestamp"),
    ],
)
async def test_every_page_is_an_index_search_from_the_cursor(
    recorder: Recording, filters: dict[str, Any], index: str
) -> None:
    await recorder.store.record([delivery(seq, event(reference="5f" * 32)) for seq in range(1, 4)])
    plans: list[str] = []
    feedback: list[str] = []

    @sqlalchemy.event.listens_for(recorder.database.readers.sync_engine, "before_cursor_execute")
    def explain(_: object, cursor: Any, statement: str, parameters: Any, *__: object) -> None:  # noqa: ANN401 - the driver's
        if statement.startswith("SELECT "):
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            kind = feedback if "resultados" in statement else plans
            kind.append(" / ".join(row[3] for row in cursor.fetchall()))

    _, cursor = await read_page(recorder.database.readers, Filtro(limite=1, **filters))
    await read_page(recorder.database.readers, Filtro(limite=1, cursor=cursor, **filters))

    *first, lengths, rows = plans
    assert [index in plan for plan in first] == [True, True]  # of the lengths of rows, and of the rows
    for second in (lengths, rows):
        assert re.search(rf"SEARCH predicciones USING INDEX {index} \(.*timestamp<", second)
    assert "SEARCH feedback USING INDEX ix_resultados_prediccion_id_registrado" in feedback[0]
    assert "SCAN" not in "".join(feedback).replace("SCAN CONSTANT ROW", "")


async def test_no_statement_leaves_patients_in_a_temporary_file(recorder: Recording) -> None:
    """To roll back a statement of many rows, SQLite copies pages, by default to a temporary file."""
    setting = await recorder.database.writer.transaction(
        lambda connection: connection.exec_driver_sql("PRAGMA temp_store").scalar_one()
    )
    assert setting == 2
