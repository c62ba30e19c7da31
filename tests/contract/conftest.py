"""Fixture: a workspace to register models in, one per test."""

from pathlib import Path

import pytest

from tests.support.builds import Workspace


@pytest.fixture(scope="session")
def empty_registry_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.builds import empty_registry  # noqa: PLC0415 - MLflow: seconds, for those who use it

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        return empty_registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_registry_file: Path) -> Workspace:
    from tests.support.builds import new_workspace  # noqa: PLC0415 - as above

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return new_workspace(empty_registry_file)
