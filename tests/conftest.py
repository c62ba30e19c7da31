"""Fixtures that all tests share."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from shared.broker.topology import topology
from tests.support.attack_table import pytest_terminal_summary as pytest_terminal_summary  # noqa: PLC0414 - a hook
from tests.support.broker import Broker
from tests.support.paths import ROOT
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.rabbitmq import RabbitServer, rabbit_server
from tests.support.targets import PostgresTarget, SqliteTarget, Target

pytest.register_assert_rewrite(
    "tests.support.recorder_suite", "tests.support.analysts_suite", "tests.support.trigger_suite"
)  # before anything imports them: asserts explain


# Tests check values; how long an example takes is up to the machine. Speed is measured by the benchmarks.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

_SLOWEST_FIRST = ("fault", "e2e", "integration", "security")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the folders whose files take longest, so that the parallel workers end at about the same time."""
    folders = {item: item.path.relative_to(ROOT / "tests").parts[0] for item in items}
    items.sort(key=lambda item: (*_SLOWEST_FIRST, folders[item]).index(folders[item]))


@pytest.fixture(autouse=True)
def _no_registry_from_elsewhere() -> None:
    """Isolate every test, and its child processes, from the registry of other tests and of the developer.

    MLflow leaves the address of its registry in the environment.
    """
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def rabbit() -> Iterator[RabbitServer]:
    with rabbit_server() as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests; each test creates its own database on it."""
    with postgres_server() as running:
        yield running


@pytest.fixture
def broker(rabbit: RabbitServer) -> Iterator[Broker]:
    """The shared server with names of this test only; none of them is declared yet."""
    yield Broker(rabbit, rabbit.url, topology(f"t-{secrets.token_hex(6)}"))
    rabbit.revive()  # a test that failed while the server was down must not make later tests fail


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    """A new database, of each kind in turn."""
    if request.param == "sqlite":
        return SqliteTarget(tmp_path / "predicciones.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return PostgresTarget(server, server.new_database())
