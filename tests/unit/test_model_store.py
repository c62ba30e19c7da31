"""The model store: publishing, pruning, locking."""

import dataclasses
import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.artifacts.bundle import MANIFEST, PICKLE, Bundle
from shared.artifacts.errors import BundleError
from shared.artifacts.signing import signing_key
from shared.artifacts.store import ModelStore, ModelStoreError
from tests.support.bundles import PacienteDePrueba, make_bundle, reseal
from training.stage_runner import run


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "registry", PacienteDePrueba, serves="pickle", pickled=b"harmless")


@pytest.fixture
def model_store(tmp_path: Path, sealed: Path) -> ModelStore:
    shutil.copytree(sealed.parents[2] / "keys", tmp_path / "keys")
    return ModelStore(tmp_path, "prueba", PacienteDePrueba.digest)


@pytest.fixture
def bundle(model_store: ModelStore, sealed: Path) -> Bundle:
    return model_store.check(sealed, "1")


def test_a_disk_that_rejects_a_write_is_one_line_and_69(
    tmp_path: Path, model_store: ModelStore, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").write_text("a file where a folder should be")

    def stage() -> str:
        model_store.publish(bundle)
        return "published"

    assert run("register", stage) == 69
    assert capsys.readouterr().err == f"register: {tmp_path}/models/prueba/1: cannot be written (Not a directory)\n"


def test_an_invalid_private_key_is_one_line_and_69(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bundle.key").touch()
    assert run("register", lambda: str(signing_key(tmp_path))) == 69
    said = f"{tmp_path}/bundle.key: not an Ed25519 key; move it away to have a new pair made"
    assert capsys.readouterr().err == f"register: {said}\n"


def test_the_oldest_versions_go_and_linked_ones_stay(model_store: ModelStore, bundle: Bundle) -> None:
    for number in range(1, 8):
        manifest = bundle.manifest.model_copy(update={"version": str(number)})
        model_store.publish(dataclasses.replace(bundle, manifest=manifest))
        os.utime(model_store.folder / str(number), (number, number))
    model_store.point("production", "1")
    model_store.point("staging", "7")
    model_store.prune(2)
    assert {path.name for path in model_store.folder.iterdir() if path.name[0] != "."} == {
        *("1", "5", "6", "7"),
        *("production", "staging"),
    }


def test_processes_that_publish_one_version_leave_one_whole(
    tmp_path: Path, model_store: ModelStore, bundle: Bundle
) -> None:
    stores = [ModelStore(tmp_path, "prueba", PacienteDePrueba.digest) for _ in range(12)]  # one per process
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda store: store.publish(bundle), stores))
    assert model_store.opened("1") is not None
    assert not list((tmp_path / "models/prueba").glob("*.partial"))


def test_the_same_version_is_written_again_only_if_it_is_damaged(model_store: ModelStore, bundle: Bundle) -> None:
    model_store.publish(bundle)
    before = (model_store.folder / "1").stat().st_ino
    model_store.publish(bundle)
    assert (model_store.folder / "1").stat().st_ino == before
    (model_store.folder / "1" / PICKLE).write_bytes(b"cut off")
    model_store.publish(bundle)
    assert model_store.opened("1") is not None


@pytest.mark.parametrize("keys", ["the same keys", "new keys"])
def test_a_signed_version_is_never_replaced_by_another(
    tmp_path: Path, model_store: ModelStore, bundle: Bundle, keys: str
) -> None:
    model_store.publish(bundle)
    other = tmp_path / "other"
    if keys == "the same keys":
        shutil.copytree(tmp_path / "keys", other / "keys")
        shutil.copytree(tmp_path / "registry/keys", other / "keys", dirs_exist_ok=True)
    folder = make_bundle(other, PacienteDePrueba, serves="pickle", pickled=b"another")
    reseal(folder, run_id="another")
    shutil.rmtree(tmp_path / "keys")
    shutil.copytree(other / "keys", tmp_path / "keys")
    with pytest.raises(ModelStoreError, match="prueba/1: another version 1 is there, which recorded answers may name"):
        model_store.publish(model_store.check(folder, "1"))
    assert {path.name: path.read_bytes() for path in (model_store.folder / "1").iterdir()} == bundle.contents


@pytest.mark.parametrize("content", [b"", b"[]", b'{"run_id": "test"}'])
def test_a_damaged_manifest_is_replaced(model_store: ModelStore, bundle: Bundle, content: bytes) -> None:
    model_store.publish(bundle)
    (model_store.folder / "1" / MANIFEST).write_bytes(content)
    model_store.publish(bundle)
    assert model_store.opened("1") is not None


def test_the_highest_version_is_compared_as_a_number(model_store: ModelStore, sealed: Path) -> None:
    assert model_store.highest_version() == 0
    for name in ("9", "10", ".11.partial", "12x"):
        reseal(shutil.copytree(sealed, model_store.folder / name), version=name)
    model_store.point("production", "9")
    assert model_store.highest_version() == 10


def test_a_copy_called_after_a_date_is_no_version(model_store: ModelStore, bundle: Bundle) -> None:
    model_store.publish(bundle)
    shutil.copytree(model_store.folder / "1", model_store.folder / "20261130")
    (model_store.folder / "20261201").mkdir()
    assert model_store.highest_version() == 1, "20 million numbers would be skipped in MLflow, one by one"


def test_the_bytes_that_were_checked_are_published(model_store: ModelStore, sealed: Path, bundle: Bundle) -> None:
    (sealed / PICKLE).write_bytes(b"changed between check and use")
    published = model_store.publish(bundle)
    assert (model_store.folder / "1" / PICKLE).read_bytes() == b"harmless"
    assert published.origin == str(model_store.folder / "1")
    assert published.files == bundle.files


def test_a_bundle_that_cannot_be_written_whole_leaves_nothing(model_store: ModelStore, bundle: Bundle) -> None:
    with pytest.raises(ModelStoreError, match="prueba/1: cannot be written"):
        model_store.publish(dataclasses.replace(bundle, files={**bundle.files, "no/folder": b""}))
    assert not list(model_store.folder.glob("*1*"))


def test_prune_removes_leftovers_but_no_target_of_an_absolute_link(model_store: ModelStore, bundle: Bundle) -> None:
    model_store.publish(bundle)
    (model_store.folder / ".2.partial").mkdir()
    (model_store.folder / "production").symlink_to(model_store.folder / "1")
    model_store.prune(0)
    assert model_store.opened("1") is not None
    assert not (model_store.folder / ".2.partial").exists()


def test_the_wait_for_another_process_is_bounded(tmp_path: Path) -> None:
    model_store = ModelStore(tmp_path, "prueba", PacienteDePrueba.digest, lock_seconds=0.1)
    model_store.folder.mkdir(parents=True)
    with (model_store.folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ModelStoreError, match=r"another process has been writing there for 0\.1 s"):
            model_store.point("production", "1")


def test_a_rejection_names_the_missing_file_or_key(model_store: ModelStore, sealed: Path, tmp_path: Path) -> None:
    def rejection() -> str:
        with pytest.raises(BundleError) as caught:
            model_store.check(sealed, "1")
        return model_store.rejection(caught.value, sealed)

    (sealed / PICKLE).unlink()
    assert rejection().startswith(f"is incomplete in the registry ({PICKLE}: not there")
    public_key = tmp_path / "keys/bundle.pub"
    public_key.write_text("no key")
    assert rejection() == f"cannot be verified ({public_key}: not an Ed25519 public key)"
    public_key.unlink()
    assert rejection().startswith(f"cannot be verified ({public_key}: not there")
