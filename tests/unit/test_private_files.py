import os
from pathlib import Path

import pytest

from shared.private_files import restrict
from tests.support.private_files import open_to_others

OURS = [
    "dvc/site/links.db",
    "gateway/outbox.db",
    "keys/bundle.pub",
    "mlartifacts/1/model/a.pkl",
    "models/tiroides/1/manifest.json",
    "pipeline/pictures/a.png",
    "pipeline/cases.csv",
    "trigger/report.json",
    "mlflow.db",
    "mlflow.db-journal",
    "local.lock",
]


def laid_down(var: Path, *names: str) -> None:
    """Write files as a program under umask 022 does, whatever that of the tests is."""
    for name in names:
        (var / name).parent.mkdir(parents=True, exist_ok=True)
        (var / name).write_bytes(b"")
        (var / name).chmod(0o644)
    for folder in (var, *(path for path in var.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


def test_all_of_ours_is_for_its_owner_only_and_counted_once(tmp_path: Path) -> None:
    var, raw = tmp_path / "var", tmp_path / "raw.csv"
    laid_down(var, *OURS)
    raw.write_bytes(b"")
    raw.chmod(0o664)
    (var / "keys/bundle.pub").chmod(0o600)
    everything = [var, raw, *var.rglob("*")]
    assert restrict(var, raw) == len(everything) - 1
    assert open_to_others(var, raw) == []
    assert {path.stat().st_mode & 0o700 for path in everything if path.is_dir()} == {0o700}
    assert restrict(var, raw) == 0


def test_folders_of_containers_keep_their_rights_inside_a_private_one(tmp_path: Path) -> None:
    laid_down(tmp_path, "compose/rabbitmq.json", "local/predicciones.db", "pipeline/cases.csv")
    restrict(tmp_path)
    assert (tmp_path / "compose/rabbitmq.json").stat().st_mode & 0o777 == 0o644
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_all_users_share_stays_open_to_them(tmp_path: Path) -> None:
    laid_down(tmp_path, "keys/access.json")
    tmp_path.chmod(0o1777)  # as /tmp
    assert restrict(tmp_path) == 2
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777
    assert open_to_others(tmp_path / "keys") == []


def test_objects_of_dvc_keep_the_mark_of_being_verified(tmp_path: Path) -> None:
    laid_down(tmp_path, "dvc/cache/files/md5/f6/b5d875")
    (tmp_path / "dvc/cache/files/md5/f6/b5d875").chmod(0o444)
    restrict(tmp_path)
    assert (tmp_path / "dvc/cache/files/md5/f6/b5d875").stat().st_mode & 0o777 == 0o444
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "dvc").rglob("*") if path.is_dir()} == {0o700}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    laid_down(elsewhere, "file")
    laid_down(tmp_path / "var", "models/1/manifest.json")
    (tmp_path / "var/models/production").symlink_to("1")
    (tmp_path / "var/keys").symlink_to(elsewhere)
    (tmp_path / "var/models/1/model.pkl").symlink_to(elsewhere / "file")
    restrict(tmp_path / "var")
    assert [path.stat().st_mode & 0o777 for path in (elsewhere, elsewhere / "file")] == [0o755, 0o644]


def test_a_folder_that_is_a_link_itself_is_restricted_where_it_leads(tmp_path: Path) -> None:
    laid_down(tmp_path / "disk", "pipeline/cases.csv")
    (tmp_path / "var").symlink_to(tmp_path / "disk")
    assert restrict(tmp_path / "var") == 3
    assert open_to_others(tmp_path / "disk") == []


def test_a_pipe_in_the_folder_blocks_nothing(tmp_path: Path) -> None:
    laid_down(tmp_path, "pipeline/cases.csv")
    os.mkfifo(tmp_path / "pipeline/pipe", 0o644)
    restrict(tmp_path)
    assert (tmp_path / "pipeline/cases.csv").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("place", ["nowhere", "file"])
def test_a_folder_that_does_not_exist_is_no_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "file").chmod(0o600)
    assert restrict(tmp_path / place, tmp_path / "none") == 0
