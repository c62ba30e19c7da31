"""Fixtures of the attackers' suite."""

from collections.abc import Iterator

import pytest

from tests.support.attack_table import Attack, attack_of
from tests.support.attacked import Attacked, attacked


@pytest.fixture
def attack(request: pytest.FixtureRequest) -> Attack:
    """Return a function that starts tries of one kind; the table at the end of the run has their numbers."""
    return attack_of(request.node.user_properties)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """The services, with keys in use; every test leaves them up and their data as they are."""
    with attacked(tmp_path_factory.mktemp("attacked")) as running:
        yield running
