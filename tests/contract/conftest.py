"""Places to register models in, one per test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.builds import Place


@pytest.fixture(scope="session")
def an_empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.builds import empty_registry  # noqa: PLC0415 - MLflow: seconds, for those who use it

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        return empty_registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, an_empty_registry: Path) -> Place:
    from tests.support.builds import new_place  # noqa: PLC0415 - as above

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return new_place(an_empty_registry)
