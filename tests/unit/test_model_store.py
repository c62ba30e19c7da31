"""The model_store that models are published on."""

from __future__ import annotations

import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from shared.artifacts.bundle import PICKLE, signing_key
from shared.artifacts.store import ModelStore, ModelStoreError
from tests.support.bundles import PacienteDePrueba, make_bundle
from training.stage_runner import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "registry", PacienteDePrueba, serves="pickle", pickled=b"harmless")


@pytest.fixture
def model_store(tmp_path: Path, sealed: Path) -> ModelStore:
    shutil.copytree(sealed.parents[2] / "keys", tmp_path / "keys")
    return ModelStore(tmp_path, "prueba", PacienteDePrueba.digest)


def test_a_disk_that_does_not_let_us_is_one_line_and_69(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").write_text("a file where a folder should be")

    def stage() -> str:
        ModelStore(tmp_path, "prueba", "d" * 64).publish(tmp_path, "1")
        return "published"

    assert run("register", stage) == 69
    assert capsys.readouterr().err == f"register: {tmp_path}/models/prueba/1: cannot be written (Not a directory)\n"


def test_a_private_key_that_is_none_is_one_line_and_69(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bundle.key").touch()
    assert run("register", lambda: str(signing_key(tmp_path))) == 69
    said = f"{tmp_path}/bundle.key: not an Ed25519 key; move it away to have a new pair made"
    assert capsys.readouterr().err == f"register: {said}\n"


def test_the_oldest_versions_are_let_go_and_those_that_links_lead_to_stay(tmp_path: Path) -> None:
    model_store, bundle = ModelStore(tmp_path, "prueba", "d" * 64), tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    for number in range(1, 8):
        model_store.publish(bundle, str(number))
        os.utime(model_store.folder / str(number), (number, number))
    model_store.point("production", "1")
    model_store.point("staging", "7")
    model_store.prune(2)
    assert {path.name for path in model_store.folder.iterdir() if path.name[0] != "."} == {
        *("1", "5", "6", "7"),
        *("production", "staging"),
    }


def test_processes_that_publish_the_same_version_at_once_leave_one_whole(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_bytes(b"x" * 100_000)
    with ThreadPoolExecutor(4) as pool:
        stores = [
            ModelStore(tmp_path, "prueba", "d" * 64) for _ in range(12)
        ]  # each locks as a process of its own does
        list(pool.map(lambda model_store: model_store.publish(bundle, "1"), stores))
    assert (tmp_path / "models/prueba/1/manifest.json").read_bytes() == b"x" * 100_000
    assert not list((tmp_path / "models/prueba").glob("*.partial"))


def test_a_version_that_is_there_and_verifies_is_not_laid_anew_and_one_that_does_not_is(
    model_store: ModelStore, sealed: Path
) -> None:
    model_store.publish(sealed, "1")
    before = (model_store.folder / "1").stat().st_ino
    model_store.publish(sealed, "1")
    assert (model_store.folder / "1").stat().st_ino == before
    (model_store.folder / "1" / PICKLE).write_bytes(b"cut off")
    model_store.publish(sealed, "1")
    assert model_store.opened("1") is not None


def test_what_could_not_be_copied_whole_leaves_nothing(model_store: ModelStore, sealed: Path) -> None:
    (sealed / "no-file").mkdir()
    with pytest.raises(ModelStoreError, match="prueba/1: cannot be written"):
        model_store.publish(sealed, "1")
    assert not list(model_store.folder.glob("*1*"))


def test_what_a_killed_process_left_is_removed_and_what_an_absolute_link_leads_to_is_not(
    model_store: ModelStore, sealed: Path
) -> None:
    model_store.publish(sealed, "1")
    (model_store.folder / ".2.partial").mkdir()
    (model_store.folder / "production").symlink_to(model_store.folder / "1")
    model_store.prune(0)
    assert model_store.opened("1") is not None
    assert not (model_store.folder / ".2.partial").exists()


def test_a_process_that_holds_the_shelf_for_ever_is_not_waited_for_for_ever(
    model_store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.artifacts.store._LOCK_SECONDS", 0.1)
    model_store.folder.mkdir(parents=True)
    with (model_store.folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ModelStoreError, match="another process has been writing there for"):
            model_store.point("production", "1")


def test_what_is_missing_is_named_be_it_a_file_of_the_bundle_or_the_key(
    model_store: ModelStore, sealed: Path, tmp_path: Path
) -> None:
    assert model_store.refusal(sealed, "1") is None
    (sealed / PICKLE).unlink()
    assert (model_store.refusal(sealed, "1") or "").startswith(f"is incomplete in the registry ({PICKLE}: not there")
    public_key = tmp_path / "keys/bundle.pub"
    public_key.write_text("no key")
    assert model_store.refusal(sealed, "1") == f"cannot be verified ({public_key}: not an Ed25519 public key)"
    public_key.unlink()
    assert (model_store.refusal(sealed, "1") or "").startswith(f"cannot be verified ({public_key}: not there")
