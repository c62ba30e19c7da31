from argparse import ArgumentParser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.gateway.key_admin import add_arguments, create, revoke, run
from shared.web.api_keys import ApiKeyStore, KeyFileError, Role, read_keys
from tests.support.odd_files import ODD_FILES


def test_keys_made_and_revoked_concurrently_are_all_stored(tmp_path: Path) -> None:
    path = tmp_path / "access.json"

    def make(number: int) -> str | None:
        key, made = create(path, Role.OPS)
        if number % 2:
            revoke(path, made.id)
            return None
        return key

    with ThreadPoolExecutor(8) as pool:
        holding = {key for key in pool.map(make, range(80)) if key is not None}
    listed = read_keys(path)
    assert listed is not None
    assert len({key.sha256 for key in listed.keys}) == 80
    assert sum(key.revoked is None for key in listed.keys) == len(holding) == 40
    ring = ApiKeyStore(path)
    assert all(ring.find(f"Bearer {key}".encode()) for key in holding)


def test_a_change_leaves_nothing_but_the_file(tmp_path: Path) -> None:
    create(tmp_path / "access.json", Role.OPS)
    assert [file.name for file in tmp_path.iterdir()] == ["access.json"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("create --role ops", "keys: {folder} cannot be written: Not a directory\n"),
        ("list", "keys: {folder}/access.json cannot be read: Not a directory\n"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, reason: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    folder = tmp_path / "file" / "keys"
    parser = ArgumentParser()
    add_arguments(parser)
    assert run(folder / "access.json", parser.parse_args(command.split())) == 1
    assert capsys.readouterr() == ("", reason.format(folder=folder))


def test_revoking_an_id_revokes_every_key_that_has_it(tmp_path: Path) -> None:
    """A file that was merged by hand can have an id twice."""
    path = tmp_path / "access.json"
    made = [create(path, Role.OPS)[1] for _ in range(2)]
    path.write_text(path.read_text().replace(made[0].id, made[1].id))
    revoke(path, made[1].id)
    listed = read_keys(path)
    assert listed is not None
    assert [key.revoked is None for key in listed.keys] == [False, False]


@pytest.mark.parametrize("odd", ODD_FILES)
def test_a_file_of_keys_that_is_odd_or_too_large_is_one_line(tmp_path: Path, odd: Callable[[Path], None]) -> None:
    odd(tmp_path / "access.json")
    with pytest.raises(KeyFileError, match=f"^{tmp_path}/access.json cannot be read: .+$"):
        read_keys(tmp_path / "access.json")
