"""The contract of the analysts' view and dictionary on SQLite."""

from pathlib import Path

import pytest

from tests.contract.test_recorder_store import SqliteTarget
from tests.support.analysts_suite import *  # noqa: F403 - the suite itself
from tests.support.recorder_suite import Target


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return SqliteTarget(tmp_path / "predicciones.db")
