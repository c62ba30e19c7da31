"""deploy/postgres.sh against a real server: roles, their limits, and passwords that no argument holds."""

import asyncio
import subprocess
from collections.abc import Iterator

import asyncpg
import pytest

from tests.support.paths import ROOT
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.processes import clean_environment

RECORDER, ANALYST = "r-password", "a-password"
LARGE_OBJECTS = ("lo_create(0)", "lo_creat(-1)", "lo_from_bytea(0, 'x')")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, str]]:
    """Run the script on an empty server, as its image does; yields the server, and the arguments of psql."""
    folder = tmp_path_factory.mktemp("psql")
    with postgres_server() as server:
        psql = folder / "psql"
        psql.write_text(f'#!/bin/sh\necho "$@" >>{folder}/arguments\nexec {server.binaries}/psql "$@"\n')
        psql.chmod(0o755)
        environment = clean_environment(
            {
                "PATH": f"{folder}:/usr/bin:/bin",
                "PGHOST": "127.0.0.1",
                "PGPORT": str(server.port),
                "PGPASSWORD": server.password,
                "POSTGRES_RECORDER_PASSWORD": RECORDER,
                "POSTGRES_ANALYST_PASSWORD": ANALYST,
            }
        )
        script = ["bash", "-euc", f". {ROOT / 'deploy/postgres.sh'}"]
        ended = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        yield server, (folder / "arguments").read_text()


def asked(server: PostgresServer, user: str, password: str, statement: str) -> object:
    """Return the first value of `statement`, run as `user`."""

    async def run() -> object:
        address = f"postgresql://{user}:{password}@127.0.0.1:{server.port}/mlops_db"
        connection = await asyncpg.connect(address)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_no_argument_has_a_password(arguments: tuple[PostgresServer, str]) -> None:
    assert RECORDER not in arguments[1]
    assert ANALYST not in arguments[1]


def test_an_analysts_query_ends_after_a_minute_and_a_recorders_does_not(arguments: tuple[PostgresServer, str]) -> None:
    [server, _] = arguments
    assert asked(server, "analista", ANALYST, "SHOW statement_timeout") == "1min"
    assert asked(server, "analista", ANALYST, "SHOW default_transaction_read_only") == "on"
    assert asked(server, "recorder", RECORDER, "SHOW statement_timeout") == "0"
    assert (
        asked(
            server,
            "recorder",
            RECORDER,
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()",
        )
        == "recorder"
    )


@pytest.mark.parametrize("function", LARGE_OBJECTS)
def test_an_analyst_creates_no_large_object(arguments: tuple[PostgresServer, str], function: str) -> None:
    [server, _] = arguments
    writing = f"SELECT set_config('transaction_read_only', 'off', true), {function}"  # as an analyst can
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asked(server, "analista", ANALYST, writing)
