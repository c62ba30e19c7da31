"""The store's promises on SQLite, and what only SQLite has."""

from __future__ import annotations

import os
import resource
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from shared.transport import TransportDownError
from tests.recorder_suite import *  # noqa: F403 - the suite itself
from tests.recorder_suite import Recording, Target, delivery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class SqliteTarget:
    """A file of its own per test."""

    path: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @contextmanager
    def unwritable(self) -> Iterator[None]:
        """Hold the lock, as an analyst's program in the middle of a change does."""
        other = sqlite3.connect(self.path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
        finally:
            other.close()

    def open_transactions(self) -> int:
        other = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        try:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return 1
        finally:
            other.close()
        return 0


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return SqliteTarget(tmp_path / "predicciones.db")


async def test_a_disk_without_room_takes_nothing_and_then_recovers(recorder: Recording, tmp_path: Path) -> None:
    await recorder.store.record([delivery(1)])
    size = (tmp_path / "predicciones.db-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(TransportDownError, match="the database cannot be written"):
            await recorder.store.record([delivery(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert await recorder.store.record([delivery(2)]) == {2}
    assert [row.seq for row in await recorder.rows()] == [1, 2]


async def test_the_files_are_readable_by_their_owner_only(recorder: Recording, tmp_path: Path) -> None:
    await recorder.store.record([delivery(1)])

    modes = {entry.name: entry.stat().st_mode & 0o777 for entry in os.scandir(tmp_path)}
    assert modes == dict.fromkeys(("predicciones.db", "predicciones.db-wal", "predicciones.db-shm"), 0o600)


async def test_times_are_text_that_sorts(recorder: Recording, tmp_path: Path) -> None:
    await recorder.store.record([delivery(1)])

    other = sqlite3.connect(tmp_path / "predicciones.db")
    found = other.execute("SELECT timestamp, typeof(probabilidad), inputs ->> 'edad' FROM predicciones").fetchone()
    other.close()
    assert found == ("2026-03-01T12:00:00.000000Z", "real", 41)
