"""Every failpoint hit twice: the process dies at that very line, starts again, and nothing is lost or half done.

`python -m chaos.failpoints --hits 50` does the same more often.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from chaos.failpoints import checkpoint, migrating, promoting, recording, serving, swapping
from chaos.failpoints.databases import Database, Sqlite
from chaos.failpoints.every import new_broker, new_database
from chaos.failpoints.modules import SERVICES, TRAINING
from chaos.failpoints.tally import Tally
from shared.failpoints import Failpoint
from tests.support.model_registry import ModelRegistry
from tests.support.postgres import PostgresServer
from tests.support.rabbitmq import RabbitServer
from tests.support.zygote import Zygote, zygote

HITS = 2
DATABASES = ("SQLite", "PostgreSQL")


@pytest.fixture(scope="module")
def server(
    services: Zygote, rabbit: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[serving.Profile]:
    with serving.server_profile(services, new_broker(rabbit), tmp_path_factory.mktemp("server")) as profile:
        yield profile


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> serving.Profile:
    return serving.local_profile(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def replica(registry: ModelRegistry, tmp_path_factory: pytest.TempPathFactory) -> swapping.Replica:
    return swapping.Replica(registry, tmp_path_factory.mktemp("replica"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[promoting.Site]:
    with zygote(*TRAINING) as training:
        yield promoting.Site(tmp_path_factory.mktemp("site"), training)


@pytest.fixture
def databases(tmp_path: Path, postgres: PostgresServer) -> dict[str, Database]:
    return {"SQLite": Sqlite(tmp_path / "p.db"), "PostgreSQL": new_database(postgres)}


def check(tally: Tally) -> None:
    assert (tally.hits, tally.lost, tally.doubled, tally.halves) == (HITS, 0, 0, 0), tally
    assert tally.answered > 0
    assert tally.recoveries


def test_every_failpoint_is_hit_here() -> None:
    hit = (
        *serving.SERVER, *serving.LOCAL, *recording.FAILPOINTS, *migrating.MIGRATIONS, *migrating.COPIES,
        *swapping.PASSES, *promoting.FAILPOINTS,
    )  # fmt: skip
    assert set(hit) == set(get_args(Failpoint))


@pytest.mark.parametrize("failpoint", serving.SERVER)
def test_a_gateway_that_dies_there_loses_no_answer(failpoint: str, services: Zygote, server: serving.Profile) -> None:
    check(serving.hit(failpoint, HITS, services, server))


@pytest.mark.parametrize("failpoint", serving.LOCAL)
def test_the_local_profile_that_dies_there_loses_no_answer(
    failpoint: str, services: Zygote, local: serving.Profile
) -> None:
    check(serving.hit(failpoint, HITS, services, local))


@pytest.mark.parametrize("failpoint", checkpoint.FILES)
def test_the_local_profile_that_dies_in_a_checkpoint_loses_no_answer(
    failpoint: str, services: Zygote, local: serving.Profile
) -> None:
    check(checkpoint.hit(failpoint, HITS, services, local, SERVICES))


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("failpoint", recording.FAILPOINTS)
def test_a_recorder_that_dies_there_records_everything_once(  # noqa: PLR0913, PLR0917 - two cases, four fixtures
    failpoint: str,
    database: str,
    services: Zygote,
    rabbit: RabbitServer,
    databases: dict[str, Database],
    tmp_path: Path,
) -> None:
    check(
        recording.hit(
            failpoint, HITS, services, broker=new_broker(rabbit), database=databases[database], folder=tmp_path
        )
    )


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("failpoint", migrating.MIGRATIONS)
def test_a_recorder_that_dies_there_leaves_the_old_tables_or_the_new_ones(
    failpoint: str, database: str, services: Zygote, databases: dict[str, Database], tmp_path: Path
) -> None:
    check(migrating.hit_migration(failpoint, HITS, services, databases[database], tmp_path))


@pytest.mark.parametrize("failpoint", migrating.COPIES)
def test_a_copy_that_is_cut_there_goes_on_and_ends_equal(
    failpoint: str, services: Zygote, databases: dict[str, Database], tmp_path: Path
) -> None:
    source, empty = databases["SQLite"], databases["PostgreSQL"]
    check(migrating.hit_copy(failpoint, HITS, services, source=source, empty=empty, folder=tmp_path))


@pytest.mark.parametrize("failpoint", swapping.PASSES)
def test_inference_that_dies_there_serves_one_version_or_the_other(
    failpoint: str, services: Zygote, replica: swapping.Replica
) -> None:
    check(swapping.hit(failpoint, HITS, services, replica))


@pytest.mark.parametrize("failpoint", promoting.FAILPOINTS)
def test_a_promotion_that_dies_there_is_finished_by_the_next_command(failpoint: str, site: promoting.Site) -> None:
    check(promoting.hit(failpoint, HITS, site))
