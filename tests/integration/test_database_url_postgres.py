"""`DATABASE_URL` against a real PostgreSQL: encryption, session, hosts, and the database's encoding."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from services.recorder.db.database import open_database
from shared.database_url import read_url
from shared.web.hosting import StartError
from tests.support.certificate import self_signed
from tests.support.ports import free_ports
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.processes import command
from training.errors import DatabaseError
from training.monitoring.predictions_db import open_predictions

ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def tls() -> Iterator[PostgresServer]:
    """A server that offers TLS; its certificate is `server.crt` in its folder."""
    with postgres_server() as server:
        pem = server.data / "server.crt"
        self_signed(pem)
        key = server.data / "server.key"
        key.write_bytes(pem.read_bytes())
        key.chmod(0o600)
        shutil.chown(key, server.data.owner())
        server.query("postgres", "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
        yield server


def hosted(server: PostgresServer, words: str, database: str | None = None) -> str:
    """Return a URL as hosted databases hand it out."""
    url = server.url(database or server.new_database()).replace("postgresql://", "postgres://")
    return f"{url}?{words}"


async def answers(url: URL, query: str) -> set[Any]:
    """Return what the connections that write and read answer to a query of one value."""
    async with open_database(url) as database, database.readers.connect() as reading:
        written = await database.writer.transaction(lambda connection: connection.exec_driver_sql(query).scalar_one())
        return {written, (await reading.execute(text(query))).scalar_one()}


@pytest.mark.parametrize(
    "words",
    [
        "sslmode=require",
        "sslmode=require&sslrootcert={certificate}&application_name=clinic&connect_timeout=10",
        "sslmode=verify-full&sslrootcert={certificate}&target_session_attrs=read-write",
        "ssl=true",
    ],
)
async def test_a_hosted_databases_url_is_encrypted(tls: PostgresServer, words: str) -> None:
    url = hosted(tls, words.format(certificate=tls.data / "server.crt"))

    assert await answers(read_url(url), ENCRYPTED) == {True}
    async with open_predictions(read_url(url)) as predictions:
        assert await predictions.prediction("00000000-0000-7000-8000-000000000000") is None


async def test_the_systems_roots_verify_the_server(
    tls: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = read_url(hosted(tls, "sslmode=verify-full&sslrootcert=system"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.data / "server.crt"))
    assert await answers(url, ENCRYPTED) == {True}

    self_signed(tmp_path / "another.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "another.pem"))
    with pytest.raises(StartError, match="certificate verify failed"):
        await answers(url, ENCRYPTED)


async def test_a_server_that_is_not_the_certificates_is_refused(tls: PostgresServer, tmp_path: Path) -> None:
    self_signed(tmp_path / "another.pem")
    url = read_url(hosted(tls, f"sslmode=verify-ca&sslrootcert={tmp_path / 'another.pem'}"))

    with pytest.raises(StartError, match=r"^cannot use the database test_.*certificate verify failed.*DATABASE_URL"):
        await answers(url, ENCRYPTED)
    with pytest.raises(DatabaseError, match="certificate verify failed"):
        async with open_predictions(url):
            pass


async def test_a_server_without_tls_gets_no_clear_text(postgres: PostgresServer) -> None:
    url = read_url(hosted(postgres, "sslmode=require"))

    with pytest.raises(StartError, match="rejected SSL upgrade"):
        await answers(url, ENCRYPTED)
    with pytest.raises(DatabaseError, match="rejected SSL upgrade"):
        async with open_predictions(url):
            pass


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("PGSSLMODE=require", 69, "rejected SSL upgrade"),
        ("PGSSLMODE=verify-full\nPGSSLROOTCERT=./none.pem", 69, "No such file"),
        ("PGSSLMODE=yes", 78, "migrate: settings: PGSSLMODE: expected disable, allow, prefer, require"),
        ("PGSSLMODE=disable", 0, ""),
    ],
)
def test_pgsslmode_in_env_file_is_never_clear_text(
    tmp_path: Path, postgres: PostgresServer, line: str, code: int, message: str
) -> None:
    (tmp_path / ".env").write_text(f"DATABASE_URL={postgres.url(postgres.new_database())}\n{line}\n")

    ended = command(("services.recorder", "migrate"), tmp_path, {})

    assert (ended.returncode, ended.stderr.count("\n")) == (code, int(code != 0))
    assert message in ended.stderr
    assert postgres.password not in ended.stderr


async def test_options_and_name_of_the_url_hold_for_the_session(postgres: PostgresServer) -> None:
    url = read_url(hosted(postgres, "application_name=clinic&options=-c%20work_mem%3D5MB"))

    assert await answers(url, "SELECT current_setting('work_mem') || current_setting('application_name')") == {
        "5MBclinic"
    }


async def test_the_host_that_can_write_is_found(postgres: PostgresServer) -> None:
    [closed] = free_ports(1)
    url = hosted(postgres, "target_session_attrs=read-write").replace("@", f"@127.0.0.1:{closed},")

    assert await answers(read_url(url), "SELECT pg_is_in_recovery()") == {False}


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_is_not_utf_8_is_refused(postgres: PostgresServer, encoding: str) -> None:
    name = f"test_{encoding.lower()}"
    create = f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    postgres.query("postgres", f"DROP DATABASE IF EXISTS {name}", create, "SELECT 1")

    with pytest.raises(StartError, match=f"^the database's encoding is {encoding} and must be UTF-8; create another"):
        await answers(read_url(postgres.url(name)), "SELECT 1")
    assert postgres.query(name, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [0]
