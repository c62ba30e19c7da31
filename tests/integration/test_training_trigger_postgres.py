"""The trigger on PostgreSQL."""

import pytest

from shared.artifacts.bundle import Bundle
from tests.support.postgres import PostgresServer
from tests.support.trigger_suite import *  # noqa: F403 - the suite itself
from tests.support.trigger_suite import beyond, prediction, record


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.url(postgres.new_database())


async def test_the_two_tables_are_all_it_must_be_allowed_to_read(
    url: str, postgres: PostgresServer, production: Bundle
) -> None:
    await record(url, *[prediction(seq, age=seq % 121, ill=seq % 2 > 0) for seq in range(1, 31)])
    database = url.rpartition("/")[2]
    postgres.query(database, "CREATE ROLE watch LOGIN PASSWORD 'of-no-worth'", "SELECT 1")
    postgres.query(database, "GRANT SELECT ON predicciones, resultados TO watch", "SELECT 1")
    assert (await beyond(url.replace(f"postgres:{postgres.password}", "watch:of-no-worth"), production))[0] == 30
