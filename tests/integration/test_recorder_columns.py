"""A column added to a copy of the recorder's source: three places change, and everything else follows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
FIELD = """\
    fuente: Annotated[
        str | None, "the event's source", ApiField("Origen."), ViewColumn("Origen del evento", after="gateway_id")
    ]
"""
MIGRATION = '''\
"""Add the source of the event to predictions."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "9999", "{newest}"


def upgrade() -> None:
    op.add_column("predicciones", sa.Column("fuente", sa.Text, nullable=True, comment="the event's source"))
'''
RECORD = """
import asyncio, sys
from prometheus_client import CollectorRegistry
from services.recorder.app import open_recorder
from services.recorder.settings import RecorderSettings
from tests.support.recorder_suite import delivery

async def record() -> None:
    async with open_recorder(RecorderSettings(database_url=sys.argv[1]), CollectorRegistry()) as recorder:
        await recorder.store.publish([delivery(1)])

asyncio.run(record())
"""
READ = """
import asyncio, sys
import httpx
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from services.recorder.app import open_recorder
from services.recorder.db.database import open_database
from shared.database_url import read_url
from services.recorder.settings import RecorderSettings
from shared.web.hosting import http_app

QUERIES = (
    "SELECT fuente FROM predicciones",
    "SELECT fuente FROM predicciones_tiroides",
    "SELECT significado FROM diccionario WHERE nombre = 'fuente'",
)

async def read() -> None:
    registry = CollectorRegistry()
    async with open_recorder(RecorderSettings(database_url=sys.argv[1]), registry) as recorder:
        transport = httpx.ASGITransport(http_app("test", recorder.part, registry=registry))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            print((await client.get("/predicciones")).json()["predicciones"][0]["fuente"])
    async with open_database(read_url(sys.argv[1])) as database, database.readers.connect() as connection:
        for query in QUERIES:
            print((await connection.execute(text(query))).scalar_one())

asyncio.run(read())
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the recorder's source and one more column in `PredictionRow`."""
    folder = tmp_path_factory.mktemp("changed")
    services = folder / "services"
    services.mkdir()
    shutil.copy(ROOT / "services/__init__.py", services)
    recorder = shutil.copytree(ROOT / "services/recorder", services / "recorder")
    add_before("    plausibles: ", FIELD, recorder / "db/rows.py")
    add_before("        plausibles=", "        fuente=event.source,\n", recorder / "ingest/parsing.py")
    versions = recorder / "migrations/versions"
    newest = max(path.name[:4] for path in versions.glob("[0-9]*.py"))
    (versions / "9999_source.py").write_text(MIGRATION.format(newest=newest))
    return folder


def add_before(place: str, lines: str, path: Path) -> None:
    text = path.read_text()
    assert text.count(place) == 1
    path.write_text(text.replace(place, lines + place))


def run(folder: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder}:{ROOT}"}
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("to_postgres", [True, False], ids=["to-postgresql", "to-sqlite"])
def test_a_new_column_takes_a_field_its_value_and_a_migration(
    tmp_path: Path, postgres: PostgresServer, changed: Path, *, to_postgres: bool
) -> None:
    urls = [f"sqlite:///{tmp_path}/p.db", postgres.url(postgres.new_database())]
    source, target = urls if to_postgres else urls[::-1]

    run(changed, "-c", RECORD, source)
    run(changed, "-m", "services.recorder", "transfer", "--from", source, "--to", target)

    assert run(changed, "-c", READ, target).splitlines()[-4:] == [*["gateway"] * 3, "Origen del evento"]
