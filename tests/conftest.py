"""What all tests share."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest

from shared.broker.topology import topology
from tests.support.broker import Broker
from tests.support.paths import ROOT
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.rabbitmq import RabbitServer, rabbit_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.register_assert_rewrite(
    "tests.support.recorder_suite", "tests.support.analysts_suite", "tests.support.trigger_suite"
)  # before anything imports them: asserts explain


_SLOWEST_FIRST = ("fault", "e2e", "integration")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose files take longest: side by side, no worker then ends long after the other."""
    folders = {item: item.path.relative_to(ROOT / "tests").parts[0] for item in items}
    items.sort(key=lambda item: (*_SLOWEST_FIRST, folders[item]).index(folders[item]))


@pytest.fixture(autouse=True)
def _no_registry_from_elsewhere() -> None:
    """Let no test, nor a process it starts, use the registry of another test, or of whoever runs the tests.

    MLflow leaves the address that it was given in the environment.
    """
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def rabbit() -> Iterator[RabbitServer]:
    with rabbit_server() as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Give one server for all: each test makes a database of its own on it."""
    with postgres_server() as running:
        yield running


@pytest.fixture
def broker(rabbit: RabbitServer) -> Iterator[Broker]:
    """Names of a test's own on the shared server, where nothing is declared yet."""
    yield Broker(rabbit, rabbit.url, topology(f"t-{secrets.token_hex(6)}"))
    rabbit.revive()  # a test that failed while the server was down is not a reason for all after it to fail
