from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.disk import Disk
from tests.waiting import until_now

if TYPE_CHECKING:
    from pathlib import Path


def test_there_is_room_and_a_ballast_is_laid(tmp_path: Path) -> None:
    assert Disk(tmp_path, min_free_mb=1).has_room()
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 8 * 1024 * 1024


def test_there_is_no_room_for_what_no_disk_has(tmp_path: Path) -> None:
    assert not Disk(tmp_path, min_free_mb=10**9).has_room()
    assert not (tmp_path / "ballast").exists()


def test_a_failed_write_gives_the_ballast_up_and_it_is_laid_again_when_there_is_room(tmp_path: Path) -> None:
    disk = Disk(tmp_path, min_free_mb=1)
    assert disk.has_room()
    disk.failed()
    assert not (tmp_path / "ballast").exists()
    assert not disk.has_room()
    until_now(disk.has_room)
    assert (tmp_path / "ballast").exists()
