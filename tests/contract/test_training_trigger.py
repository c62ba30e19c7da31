"""The trigger on SQLite."""

import sqlite3
from pathlib import Path

import pytest

from shared.artifacts.bundle import Bundle
from shared.settings import SettingsError
from tests.support.trigger_suite import *  # noqa: F403 - the suite itself
from tests.support.trigger_suite import beyond
from training.errors import DatabaseError


@pytest.fixture
def url(tmp_path: Path) -> str:
    path = tmp_path / "predicciones.db"
    sqlite3.connect(path).close()
    path.touch()
    return f"sqlite:///{path}"


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, production: Bundle) -> None:
    with pytest.raises(DatabaseError, match="No such file"):
        await beyond(f"sqlite:///{tmp_path}/none.db", production)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("wrong", ["", "mysql://somewhere/db", "sqlite://", "predicciones.db"])
async def test_an_address_of_no_database_of_ours_is_one_line(wrong: str, production: Bundle) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL: expected"):
        await beyond(wrong, production)
