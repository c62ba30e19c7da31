import resource
from pathlib import Path

import pytest

from services.gateway.outbox.disk_guard import DiskGuard
from tests.support.waiting import until_now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "outbox.db"
    path.write_bytes(b"")
    return path


def test_with_room_the_reserve_file_is_written(file: Path) -> None:
    assert DiskGuard(file, min_free_mb=1).has_room()
    assert file.with_name("reserve").stat().st_blocks * 512 >= 8 * 1024 * 1024


def test_there_is_no_room_for_what_no_disk_has(file: Path) -> None:
    assert not DiskGuard(file, min_free_mb=10**9).has_room()
    assert not file.with_name("reserve").exists()


def test_a_reserve_file_that_cannot_be_allocated_is_no_room(file: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
    try:
        assert not DiskGuard(file, min_free_mb=1).has_room()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not file.with_name("reserve").exists()


def test_a_failed_write_deletes_the_reserve_until_there_is_room(file: Path) -> None:
    disk = DiskGuard(file, min_free_mb=1)
    assert disk.has_room()
    disk.failed(None)
    assert not file.with_name("reserve").exists()
    assert not disk.has_room()
    until_now(disk.has_room)
    assert file.with_name("reserve").exists()


def test_a_file_that_is_gone_or_another_has_no_room_for_this_reason(file: Path) -> None:
    disk = DiskGuard(file, min_free_mb=1)
    assert (disk.has_room(), disk.failure) == (True, None)
    file.rename(file.with_name("moved"))
    until_now(lambda: not disk.has_room())
    assert disk.failure is not None
    assert disk.failure.startswith(f"{file} was moved, deleted or replaced: ")
    file.write_bytes(b"another")
    disk.failed(None)
    until_now(lambda: not disk.has_room() and disk.failure is not None)
    file.unlink()
    file.with_name("moved").rename(file)
    until_now(disk.has_room)
    assert disk.failure is None


def test_a_file_that_was_cut_off_has_no_room_for_this_reason(file: Path) -> None:
    file.write_bytes(b"outbox")
    disk = DiskGuard(file, min_free_mb=1)
    file.write_bytes(b"outbox, longer")
    assert disk.has_room()
    file.write_bytes(b"outbox")
    until_now(lambda: not disk.has_room())
    assert "was emptied or cut off" in (disk.failure or "")


def test_a_full_disk_is_no_failure(file: Path) -> None:
    disk = DiskGuard(file, min_free_mb=10**9)
    assert (disk.has_room(), disk.failure) == (False, None)
