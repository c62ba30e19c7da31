"""Fixtures of the fault tests: one registry and one zygote."""

from collections.abc import Iterator

import pytest

from chaos.failpoints.modules import SERVICES
from tests.support.model_registry import ModelRegistry, model_registry
from tests.support.zygote import Zygote, zygote


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelRegistry]:
    with model_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def services() -> Iterator[Zygote]:
    """Start services without their imports, which are most of a start, for tests that start one many times."""
    with zygote(*SERVICES) as running:
        yield running
