"""The contract of the analysts' view and dictionary on PostgreSQL, and its read-only role."""

import asyncio
import re
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo

import asyncpg
import pytest
from structlog.testing import capture_logs

from shared.diseases.thyroid import DatosPaciente
from tests.support.analysts_suite import *  # noqa: F403 - the suite itself
from tests.support.analysts_suite import (
    QUERIES,
    Anemia,
    Renamed,
    a_year_of_patients,
    described,
    query,
    query_plain,
    record,
)
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.targets import PostgresTarget, SqliteTarget, Target


@pytest.fixture
def target(postgres: PostgresServer) -> Target:
    return PostgresTarget(postgres, postgres.new_database())


async def test_concurrent_starts_create_one_view_and_one_dictionary(target: Target) -> None:
    async def start() -> int:
        async with described(target, DatosPaciente) as database:
            return len(await query(database, "SELECT * FROM diccionario"))

    assert len(set(await asyncio.gather(*(start() for _ in range(4))))) == 1


async def refused(url: str, statement: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    finally:
        await connection.close()
    return False


def url_of(user: str, target: PostgresTarget) -> str:
    return f"postgresql://{user}:{user}@127.0.0.1:{target.server.port}/{target.database}"


async def test_both_databases_answer_every_query_alike(target: Target, tmp_path: Path) -> None:
    async with (
        described(target, DatosPaciente) as postgres,
        described(SqliteTarget(tmp_path / "p.db"), DatosPaciente) as sqlite,
    ):
        for database in (postgres, sqlite):
            await record(database, *a_year_of_patients())
        for sql in QUERIES:
            if not re.search(r"\bdesde\b", sql):  # these depend on the time of each database's first start
                assert await query_plain(postgres, sql) == await query_plain(sqlite, sql), sql


async def test_the_role_reads_views_and_dictionary_and_nothing_else(
    target: PostgresTarget, postgres: PostgresServer
) -> None:
    async with described(target, Anemia, Renamed):
        pass
    postgres.query("postgres", "CREATE ROLE ana LOGIN PASSWORD 'ana' IN ROLE predecir_analista", "SELECT 1")
    ana = url_of("ana", target)

    for readable in ("predicciones_anemia", "diccionario"):
        assert not await refused(ana, f"SELECT * FROM {readable}")  # noqa: S608 - ours
    for hidden in ("predicciones", "cuarentena", "duplicados", "alembic_version"):
        assert await refused(ana, f"SELECT * FROM {hidden}")  # noqa: S608 - ours
    for change in ("DELETE FROM diccionario", "DELETE FROM predicciones_anemia", "CREATE TABLE mine (a int)"):
        assert await refused(ana, change)


async def test_a_recorder_without_createrole_logs_the_sql_for_it() -> None:
    with postgres_server() as alone:  # roles belong to a whole server: one without the role
        target = PostgresTarget(alone, "clinic")
        create = "CREATE ROLE recorder LOGIN PASSWORD 'recorder'", "CREATE ROLE ana LOGIN PASSWORD 'ana'"
        alone.query("postgres", *create, "CREATE DATABASE clinic OWNER recorder")
        for _ in range(2):
            with capture_logs() as logs:
                async with described(OwnedBy("recorder", target), Anemia) as database:
                    assert await query(database, "SELECT * FROM diccionario")
            (advice,) = [log["run_as_administrator"] for log in logs if log["event"] == "analysts_role_missing"]

        alone.query("clinic", *advice.rstrip(";").split("; "), "GRANT predecir_analista TO ana")
        assert not await refused(url_of("ana", target), "SELECT * FROM predicciones_anemia, diccionario")
        with capture_logs() as logs:
            async with described(OwnedBy("recorder", target), Renamed):
                pass
        assert [log["event"] for log in logs] == ["analysts_view_refreshed"]
        assert not await refused(url_of("ana", target), "SELECT ferritina FROM predicciones_anemia")


class OwnedBy:
    """A database, opened as its owner."""

    def __init__(self, user: str, target: PostgresTarget) -> None:
        self.url = url_of(user, target)
        self.unwritable = target.unwritable
        self.open_transactions = target.open_transactions


async def test_an_analysts_own_view_on_ours_keeps_no_recorder_from_starting(target: PostgresTarget) -> None:
    async with described(target, Anemia):
        pass
    target.server.query(target.database, "CREATE VIEW mine AS SELECT hemoglobina FROM predicciones_anemia", "SELECT 1")

    with capture_logs() as logs:
        async with described(target, Renamed) as database:
            assert await query(database, "SELECT paciente_output FROM predicciones_anemia") == []

    assert [(log["event"], log["view"]) for log in logs] == [("analysts_view_not_refreshed", "predicciones_anemia")]
    assert logs[0]["reason"].startswith("cannot drop view predicciones_anemia because other objects depend on it")


async def test_a_zone_unknown_to_postgresql_keeps_the_former_view(target: PostgresTarget) -> None:
    zone = next(Path(folder) / "Europe/Madrid" for folder in TZPATH if (Path(folder) / "Europe/Madrid").exists())
    with zone.open("rb") as file:
        unknown = ZoneInfo.from_file(file, key="Mars/Olympus")

    with capture_logs() as logs:
        async with described(target, Anemia), described(target, Anemia, zone=unknown) as database:
            assert await query(database, "SELECT dia_local FROM predicciones_anemia") == []

    assert [(log["event"], log.get("reason")) for log in logs] == [
        ("analysts_view_refreshed", None),
        ("analysts_view_not_refreshed", 'time zone "Mars/Olympus" not recognized'),
    ]


async def test_an_analysts_long_query_keeps_no_recorder_from_starting(target: PostgresTarget) -> None:
    async with described(target, Anemia):
        pass
    analyst = await asyncpg.connect(target.url)
    try:
        async with analyst.transaction():
            await analyst.fetch("SELECT * FROM predicciones_anemia")
            with capture_logs() as logs:
                async with described(target, Renamed):
                    pass
    finally:
        await analyst.close()

    assert [(log["event"], log["reason"]) for log in logs] == [
        ("analysts_view_not_refreshed", "canceling statement due to lock timeout")
    ]
    async with described(target, Renamed) as database:
        assert await query(database, "SELECT ferritina FROM predicciones_anemia") == []
