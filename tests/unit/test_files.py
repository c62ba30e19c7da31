"""Files: bounded reads, atomic replacement, creation by one process, locks."""

import errno
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.files import FileTooLargeError, create_once, locked, read_regular, replace_file, write_synced
from tests.support.odd_files import ODD_FILES, folder, huge


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("size", [0, 9, 10])
def test_a_file_up_to_its_bound_is_read(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 10) == b"x" * size


@pytest.mark.parametrize("odd", ODD_FILES)
def test_a_file_of_another_kind_or_size_is_not_read(tmp_path: Path, odd: Callable[[Path], None]) -> None:
    odd(tmp_path / "file")
    reason = "not a regular file"
    if odd in {folder, huge}:
        reason = os.strerror(errno.EISDIR) if odd is folder else "larger than the 10 bytes that it may have"
    with pytest.raises(OSError, match=f"{reason}: '{tmp_path}/file'") as raised:
        read_regular(tmp_path / "file", 10)
    assert isinstance(raised.value, FileTooLargeError) == (odd is huge)


def test_a_replaced_file_has_the_new_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    replace_file(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["file"]


def test_a_failed_replacement_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/content").touch()
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "taken", b"new")
    assert names(tmp_path) == ["taken"]


def test_root_gives_a_file_to_the_owner_of_its_folder(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 1234, 1234)
    replace_file(tmp_path / "file", b"", folder_owner=True)
    assert (tmp_path / "file").stat().st_uid == tmp_path.stat().st_uid


def test_one_of_many_creates_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda number: create_once(path, b"%d" % number), range(8)))
    assert created.count(True) == 1
    assert path.read_bytes() == b"%d" % created.index(True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["key"]


def test_a_new_file_never_overwrites(tmp_path: Path) -> None:
    write_synced(tmp_path / "file", b"first")
    with pytest.raises(FileExistsError):
        write_synced(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"


@pytest.mark.parametrize("name", ["", "lock"])
def test_a_lock_excludes_others_until_it_is_released(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with locked(path), pytest.raises(TimeoutError, match="another process"), locked(path, seconds=0):
        pass
    with locked(path, seconds=0):
        pass


def test_a_wait_for_a_lock_ends(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match=r"for 0\.1 s"), locked(tmp_path / "lock", seconds=0.1):
            pass
