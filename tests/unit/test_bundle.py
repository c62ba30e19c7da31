"""Opening a bundle: every byte is checked before it is used."""

import hashlib
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.inference.serving.loading import UnusableModelError, load_model
from shared.artifacts.bundle import (
    MANIFEST,
    PICKLE,
    SIGNATURE,
    Manifest,
    file_digest,
    open_bundle,
    seal,
)
from shared.artifacts.errors import (
    BundleError,
    BundleMismatchError,
    BundleMisnamedError,
    BundleMissingError,
    BundleTamperedError,
)
from shared.artifacts.signing import signing_key
from tests.support.bundles import PacienteDePrueba, make_bundle, reseal
from tests.support.odd_files import FAR_ABOVE, ODD_FILES, replace_by

DIGEST = PacienteDePrueba.digest


class Marker:
    """An object that creates `path` when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    return make_bundle(tmp_path, PacienteDePrueba, serves="pickle", pickled=pickle.dumps("harmless"))


@pytest.fixture
def public_key(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "bundle.pub"


def flip(path: Path, index: int) -> None:
    content = bytearray(path.read_bytes())
    content[index] ^= 1
    path.write_bytes(content)


def test_a_sound_bundle_has_the_checked_bytes_and_the_manifest_digest(sealed: Path, public_key: Path) -> None:
    bundle = open_bundle(sealed, public_key, patient_digest=DIGEST)
    assert bundle.files == {PICKLE: pickle.dumps("harmless")}
    assert bundle.digest == hashlib.sha256((sealed / MANIFEST).read_bytes()).hexdigest()
    assert bundle.facts.columns == PacienteDePrueba.columns
    assert bundle.facts.digest == bundle.digest


@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE, PICKLE])
@pytest.mark.parametrize("index", [0, 10, -1])
def test_one_flipped_bit_anywhere_is_rejected(sealed: Path, public_key: Path, name: str, index: int) -> None:
    flip(sealed / name, index)
    with pytest.raises(BundleTamperedError):
        open_bundle(sealed, public_key, patient_digest=DIGEST)


@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE, PICKLE])
def test_a_shortened_file_is_rejected(sealed: Path, public_key: Path, name: str) -> None:
    (sealed / name).write_bytes((sealed / name).read_bytes()[:-1])
    with pytest.raises(BundleTamperedError):
        open_bundle(sealed, public_key, patient_digest=DIGEST)


@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE, PICKLE])
def test_a_missing_file_is_named(sealed: Path, public_key: Path, name: str) -> None:
    (sealed / name).unlink()
    with pytest.raises(BundleMissingError, match=name):
        open_bundle(sealed, public_key, patient_digest=DIGEST)


@pytest.mark.parametrize("odd", ODD_FILES)
@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE, PICKLE, "bundle.pub"])
def test_a_file_that_is_odd_or_too_large_is_rejected_unread(
    sealed: Path, public_key: Path, name: str, odd: Callable[[Path], None]
) -> None:
    path = public_key if name == public_key.name else sealed / name
    replace_by(odd, path)
    with pytest.raises(BundleError, match=f"{path}: (cannot be read|larger than the|its SHA-256 is not)"):
        open_bundle(sealed, public_key, patient_digest=DIGEST)


def test_a_file_larger_than_its_signed_size_is_rejected_unread(sealed: Path, public_key: Path) -> None:
    with (sealed / PICKLE).open("ab") as file:
        file.truncate(FAR_ABOVE)
    with pytest.raises(BundleTamperedError, match=f"{PICKLE}: its SHA-256 is not the one that was signed; refused"):
        open_bundle(sealed, public_key, patient_digest=DIGEST)


def test_a_bundle_sealed_as_another_model_is_rejected(sealed: Path, public_key: Path) -> None:
    assert open_bundle(sealed, public_key, patient_digest=DIGEST, name="prueba").manifest.name == "prueba"
    reseal(sealed, name="otra")
    with pytest.raises(BundleMisnamedError, match="sealed as model otra, not prueba"):
        open_bundle(sealed, public_key, patient_digest=DIGEST, name="prueba")


@pytest.mark.parametrize("name", ["../model.pkl", "/model.pkl", "a/model.pkl", ".model.pkl", "model.pkl\n", ""])
def test_a_signed_manifest_names_files_of_its_own_folder_only(sealed: Path, public_key: Path, name: str) -> None:
    reseal(sealed, files={name: file_digest(b"")})
    with pytest.raises(BundleMismatchError, match="not a manifest this version reads"):
        open_bundle(sealed, public_key, patient_digest=DIGEST)


def test_a_missing_public_key_is_named(sealed: Path, public_key: Path) -> None:
    public_key.unlink()
    with pytest.raises(BundleMissingError, match=r"bundle\.pub"):
        open_bundle(sealed, public_key, patient_digest=DIGEST)


def test_a_bundle_signed_by_another_key_is_rejected(sealed: Path, tmp_path: Path) -> None:
    signing_key(tmp_path / "other")
    with pytest.raises(BundleTamperedError, match="signature"):
        open_bundle(sealed, tmp_path / "other" / "bundle.pub", patient_digest=DIGEST)


def test_a_bundle_for_another_patient_class_is_rejected(sealed: Path, public_key: Path) -> None:
    with pytest.raises(BundleMismatchError, match="PREDECIR_PACIENTE"):
        open_bundle(sealed, public_key, patient_digest="0" * 64)


def test_a_signed_manifest_of_another_format_is_rejected(sealed: Path, public_key: Path, tmp_path: Path) -> None:
    content = json.dumps(json.loads((sealed / MANIFEST).read_bytes()) | {"format": 2}).encode()
    (sealed / MANIFEST).write_bytes(content)
    (sealed / SIGNATURE).write_bytes(signing_key(tmp_path / "keys").sign(content))
    with pytest.raises(BundleMismatchError, match="signed, but not a manifest this version reads \\(1 errors\\)"):
        open_bundle(sealed, public_key, patient_digest=DIGEST)


def test_a_model_is_unpickled_only_after_its_digest_is_verified(sealed: Path, public_key: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    (sealed / PICKLE).write_bytes(pickle.dumps(Marker(marker)))
    with pytest.raises(BundleTamperedError):
        load_model(open_bundle(sealed, public_key, patient_digest=DIGEST))
    assert not marker.exists()


def test_signed_bytes_are_unpickled_and_rejected_if_they_are_no_model(tmp_path: Path, public_key: Path) -> None:
    marker = tmp_path / "executed"
    folder = make_bundle(tmp_path, PacienteDePrueba, serves="pickle", pickled=pickle.dumps(Marker(marker)))
    with pytest.raises(UnusableModelError, match="golden"):
        load_model(open_bundle(folder, public_key, patient_digest=DIGEST))
    assert marker.exists()


def test_the_plausibility_threshold_is_that_of_the_manifest(sealed: Path, public_key: Path) -> None:
    bundle = open_bundle(sealed, public_key, patient_digest=DIGEST)
    assert bundle.manifest.conformal is not None
    assert bundle.facts.plausible_at == bundle.manifest.conformal.plausible_at


def test_a_manifest_without_conformal_has_no_plausibility_threshold(
    sealed: Path, public_key: Path, tmp_path: Path
) -> None:
    older = json.loads((sealed / MANIFEST).read_bytes())
    del older["conformal"]
    seal(sealed, Manifest.model_validate(older), signing_key(tmp_path / "keys"))
    assert open_bundle(sealed, public_key, patient_digest=DIGEST).facts.plausible_at is None


def test_a_lost_public_key_is_written_again(tmp_path: Path) -> None:
    private = signing_key(tmp_path).private_bytes_raw()
    before = (tmp_path / "bundle.pub").read_bytes()
    (tmp_path / "bundle.pub").unlink()  # as after a crash between the two
    assert signing_key(tmp_path).private_bytes_raw() == private
    assert (tmp_path / "bundle.pub").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"bundle.key", "bundle.pub"}
    assert (tmp_path / "bundle.key").stat().st_mode & 0o077 == 0


def test_concurrent_trainings_generate_one_key_pair(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: signing_key(tmp_path / "keys").private_bytes_raw(), range(8)))
    assert len(set(keys)) == 1


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\n"])
def test_an_invalid_private_key_raises_and_is_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bundle.key").write_bytes(content)
    with pytest.raises(BundleError, match="not an Ed25519 key; move it away"):
        signing_key(tmp_path)
    assert (tmp_path / "bundle.key").read_bytes() == content


def test_an_unreadable_public_key_raises_a_bundle_error(sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleMissingError, match="cannot be read"):
        open_bundle(sealed, tmp_path / ("k" * 300), patient_digest=DIGEST)
