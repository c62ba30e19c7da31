"""`python -m services.recorder migrate` as an operator runs it."""

import hashlib
import re
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection

from services.recorder.db.database import open_database
from services.recorder.db.migrate import MIGRATIONS, alembic_config
from services.recorder.db.tables import CUARENTENA
from shared.database_url import read_url
from tests.support.analysts_suite import query
from tests.support.processes import command as run_command
from tests.support.recorder_suite import delivery, recording
from tests.support.targets import Target

VIEW = "view predicciones_tiroides: up to date\n"
NEWEST = max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def migrate(folder: Path, url: str, **environment: str) -> tuple[int, str, str]:
    ended = run_command(("services.recorder", "migrate"), folder, {"DATABASE_URL": url, **environment})
    return ended.returncode, ended.stdout, ended.stderr


async def test_it_creates_upgrades_and_then_finds_nothing_to_do(tmp_path: Path, target: Target) -> None:
    def downgrade(connection: Connection) -> None:
        command.downgrade(alembic_config(connection), "0002")

    created = migrate(tmp_path, target.url)
    async with recording(target) as opened:
        await opened.store.record([delivery(1)])
        await opened.database.writer.transaction(downgrade)
    upgraded, unchanged = migrate(tmp_path, target.url), migrate(tmp_path, target.url)

    lines = [re.sub(r"^.*?: ", "", stdout) for _, stdout, _ in (created, upgraded, unchanged)]
    assert lines == [
        f"created the tables, at revision {NEWEST}\n{VIEW}",
        f"upgraded the tables from revision 0002 to {NEWEST}\n{VIEW}",
        f"the tables are at revision {NEWEST}, the newest; nothing to do\n{VIEW}",
    ]
    assert [code for code, _, _ in (created, upgraded, unchanged)] == [0, 0, 0]
    async with recording(target) as opened:
        assert [row.seq for row in await opened.rows()] == [1]


async def test_quarantined_rows_get_the_digest_of_their_bytes(tmp_path: Path, target: Target) -> None:
    """As those of a recorder that kept one row of each seq."""

    def downgrade(connection: Connection) -> None:
        command.downgrade(alembic_config(connection), "0005")

    bodies = [b"\x00", b"{", b"["]
    async with recording(target) as opened:
        await opened.store.record([delivery(seq, body) for seq, body in enumerate(bodies, 1)])
        await opened.database.writer.transaction(downgrade)
    assert migrate(tmp_path, target.url)[0] == 0

    async with recording(target) as opened:
        await opened.store.record([delivery(seq, body) for seq, body in enumerate(bodies, 1)])
        await opened.store.record([delivery(3, b"other")])
        rows = [(row.seq, bytes(row.cuerpo), row.huella) for row in await opened.rows(CUARENTENA)]
    kept = [*enumerate(bodies, 1), (3, b"other")]
    assert rows == [(seq, body, hashlib.sha256(body).hexdigest()) for seq, body in kept]


@pytest.mark.parametrize("dropped", [False, True], ids=["new", "after the views were dropped"])
async def test_the_view_is_there_before_the_first_start(tmp_path: Path, target: Target, *, dropped: bool) -> None:
    def downgrade(connection: Connection) -> None:
        command.downgrade(alembic_config(connection), "0004")

    if dropped:
        migrate(tmp_path, target.url)
        async with open_database(read_url(target.url)) as database:
            await database.writer.transaction(downgrade)
    assert migrate(tmp_path, target.url)[0] == 0

    async with open_database(read_url(target.url)) as database:
        assert await query(database, "SELECT id, tsh FROM predicciones_tiroides") == []
        named = await query(database, "SELECT nombre FROM diccionario WHERE vista = 'predicciones_tiroides'")
    assert {"tsh", "output"} <= {row["nombre"] for row in named}


def test_a_patient_class_that_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    code, stdout, stderr = migrate(tmp_path, f"sqlite:///{tmp_path}/p.db", PREDECIR_PACIENTE="nadie:DatosPaciente")

    assert (code, stdout) == (78, "")
    assert stderr.startswith("migrate: PREDECIR_PACIENTE=nadie:DatosPaciente: cannot import it ")
    assert stderr.count("\n") == 1
    assert not (tmp_path / "p.db").exists()


async def test_tables_of_a_newer_version_are_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/p.db"
    async with open_database(read_url(url)) as database:
        await database.writer.transaction(
            lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        )

    code, stdout, stderr = migrate(tmp_path, url)

    assert (code, stdout) == (69, "")
    assert stderr.startswith("migrate: the tables of the database cannot be upgraded: ")
    assert stderr.count("\n") == 1


def test_a_wrong_url_is_one_line_without_its_password(tmp_path: Path) -> None:
    code, _, stderr = migrate(tmp_path, "mysql://u:secreto@localhost/db")

    assert code == 78
    assert stderr.startswith("migrate: settings: DATABASE_URL: expected ")
    assert "secreto" not in stderr
