"""Registering for real: an SQLite registry, sealed bundles and links, in a folder of the test."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from shared.artifacts.bundle import Conformal, open_bundle
from shared.artifacts.errors import BundleTamperedError
from tests.support.builds import (
    MadeUpPatient,
    OtherClass,
    Place,
    another,
    for_another_class,
    good_build,
    shuffled_build,
)
from training.errors import GatesFailedError, PromotionError, RegistryError
from training.model.onnx import convert
from training.registry.mlflow_errors import translated
from training.registry.mlflow_registry import Registry

if TYPE_CHECKING:
    from training.stage_files import Build


@pytest.fixture
def build() -> Build:
    return good_build()


@pytest.fixture
def worse() -> Build:
    return shuffled_build()


def test_a_good_model_becomes_version_1_in_production_with_a_bundle_that_opens(place: Place, build: Build) -> None:
    assert place.register(build) == "version 1, production and staging"
    bundle = open_bundle(
        place.model_store.folder / "production", place.var / "keys/bundle.pub", patient_digest=MadeUpPatient.digest
    )
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.serves) == ("inventada", "1", "onnx")
    assert manifest.columns == MadeUpPatient.columns
    assert bundle.files == {
        "model.pkl": build.pickled,
        "model.onnx": build.onnx,
        "card.html": (place.model_store.folder / "1" / "card.html").read_bytes(),
    }
    assert manifest.conformal == Conformal(level=0.9, plausible_at=build.training.chosen.plausible_at)
    assert manifest.parameters["chosen.temperature"] == build.training.chosen.temperature
    assert place.link("staging") == place.link("production") == "1"
    assert place.registry.aliases() == {"staging": "1", "production": "1"}


def test_the_run_holds_parameters_metrics_pictures_verdicts_signature_and_provenance(
    place: Place, build: Build
) -> None:
    import mlflow  # noqa: PLC0415 - seconds, for this test alone

    place.register(build)
    client = mlflow.MlflowClient()
    version = client.get_model_version("inventada", "1")
    assert version.run_id is not None
    run = client.get_run(version.run_id)
    assert run.data.params["model.max_iter"] == "8"
    assert run.data.metrics["recall.grave"] == build.metrics.figures["recall.grave"]
    assert run.data.metrics["accuracy.low"] <= run.data.metrics["accuracy"] <= run.data.metrics["accuracy.high"]
    assert {name: run.data.tags[name] for name in ("patient_digest", "data_hash")} == {
        "patient_digest": MadeUpPatient.digest,
        "data_hash": "0" * 32,
    }
    bundle = place.model_store.opened("1")
    assert bundle is not None
    dirty = {True: "yes", False: "no", None: "unknown"}[bundle.manifest.git_dirty]
    assert (run.data.tags["git_commit"], run.data.tags["git_dirty"]) == (bundle.manifest.git_commit, dirty)
    assert {artifact.path for artifact in client.list_artifacts(version.run_id)} >= {
        "bundle",
        "card",
        "gates",
        "pictures",
    }
    info = mlflow.models.get_model_info("models:/inventada@production")
    assert info.signature is not None
    assert info.signature.inputs.input_names() == list(MadeUpPatient.columns)


def test_registering_the_same_build_again_changes_nothing(place: Place, build: Build) -> None:
    place.register(build)
    before = {path: path.stat().st_mtime_ns for path in place.model_store.folder.glob("1/*")}
    assert place.register(build) == "version 1 again, production and staging"
    assert {
        path: path.stat().st_mtime_ns for path in place.model_store.folder.glob("*/*") if path.parent.name == "1"
    } == before


def test_a_model_that_misses_a_gate_stays_in_staging_and_production_keeps_what_it_had(
    place: Place, build: Build, worse: Build
) -> None:
    place.register(build)
    for _ in range(2):  # again, without a new version
        with pytest.raises(
            GatesFailedError, match=r"version 2 stays in staging; it does not pass: .*balanced_accuracy"
        ):
            place.register(worse)
    assert (place.link("staging"), place.link("production")) == ("2", "1")


def test_a_first_model_that_misses_a_gate_leaves_production_empty(place: Place, worse: Build) -> None:
    with pytest.raises(GatesFailedError):
        place.register(worse)
    assert place.links() == ("1", None)


def test_an_onnx_model_that_differs_is_left_out_of_the_bundle(place: Place, build: Build) -> None:
    other = convert(pickle.loads(build.pickled).set_params())  # noqa: S301 - made above
    unequal = build.proof.parity.model_copy(update={"label_flips": 1, "passed": False})
    gates = build.parameters.gates.model_copy(update={"onnx_parity": False})
    differing = replace(
        build,
        onnx=other,
        proof=build.proof.model_copy(update={"parity": unequal}),
        parameters=build.parameters.model_copy(update={"gates": gates}),
    )
    place.register(differing)
    bundle = place.model_store.opened("1")
    assert bundle is not None
    assert bundle.manifest.serves == "pickle"
    assert set(bundle.files) == {"model.pkl", "card.html"}


def test_a_tampered_bundle_is_refused_and_the_registry_brings_the_true_one_back(place: Place, build: Build) -> None:
    place.register(build)
    folder = place.model_store.folder / "1"
    content = (folder / "model.pkl").read_bytes()
    (folder / "model.pkl").write_bytes(content[:-1] + b"!")
    with pytest.raises(BundleTamperedError):
        open_bundle(folder, place.var / "keys/bundle.pub", patient_digest=MadeUpPatient.digest)
    assert "version 1 again" in place.register(build)
    assert (folder / "model.pkl").read_bytes() == content


def test_lost_models_come_back_from_the_registry(place: Place, build: Build) -> None:
    place.register(build)
    shutil.rmtree(place.var / "models")
    assert "version 1 again" in place.register(build)
    assert place.model_store.opened("1") is not None
    assert place.link("production") == "1"


def test_a_build_that_comes_back_takes_staging_and_leaves_production_to_an_operator(place: Place, build: Build) -> None:
    place.register(build)
    assert place.register(another(build)) == "version 2, production and staging"
    assert "version 1 again, staging; production stays at version 2" in place.register(build)
    assert place.links() == ("1", "2")


def test_what_an_operator_rolled_back_is_not_undone_by_training_again(place: Place, build: Build) -> None:
    place.register(build)
    place.register(another(build))
    place.rollback()
    assert "version 2 again, staging; production stays at version 1" in place.register(another(build))
    assert place.links() == ("2", "1")


def test_a_build_that_comes_back_and_misses_a_gate_takes_staging_only(place: Place, build: Build, worse: Build) -> None:
    with pytest.raises(GatesFailedError):
        place.register(worse)
    place.register(build)
    with pytest.raises(GatesFailedError, match="version 1 stays in staging"):
        place.register(worse)
    assert place.registry.aliases() == {"staging": "1", "production": "2"}
    assert (place.link("staging"), place.link("production")) == ("1", "2")


def test_a_version_that_was_forced_into_production_is_not_refused_by_training_again(
    place: Place, build: Build, worse: Build
) -> None:
    place.register(build)
    with pytest.raises(GatesFailedError):
        place.register(worse)
    place.promote("2", force=True)
    assert place.register(worse) == "version 2 again, production and staging"


@pytest.mark.parametrize("moved", [False, True])
def test_a_version_that_was_only_too_slow_is_judged_again_unless_production_was_moved_since(
    place: Place, build: Build, *, moved: bool
) -> None:
    place.register(another(build))
    at_once = build.parameters.gates.latency.model_copy(update={"one_row_p99_ms": 1e-6})
    gates = build.parameters.gates.model_copy(update={"latency": at_once})
    with pytest.raises(GatesFailedError, match=r"does not pass: latency\.one_row_p99_ms$"):
        place.register(replace(build, parameters=build.parameters.model_copy(update={"gates": gates})))
    place.registry.complete("2", build.id, ["latency.one_row_p99_ms"])  # as if it had been that machine, not the gate
    if moved:
        place.register(another(build, 0.15))
        with pytest.raises(GatesFailedError, match="version 2 stays in staging"):
            place.register(build)
    else:
        assert place.register(build) == "version 2 again, production and staging"
    assert place.links() == ("2", "3" if moved else "2")


def test_a_class_that_was_changed_and_changed_back_is_served_again(place: Place, build: Build) -> None:
    place.register(build)
    changed = OtherClass()
    assert changed.register(for_another_class(build)) == "version 2, production and staging"
    assert place.register(build) == "version 1 again, production and staging"
    assert (place.link("staging"), place.link("production")) == ("1", "1")


def test_after_a_change_of_class_a_model_that_misses_a_gate_leaves_the_old_link_and_says_why(
    place: Place, build: Build, worse: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    place.register(build)
    before = (place.model_store.folder / "1").stat().st_ino
    with pytest.raises(GatesFailedError, match="version 2 stays in staging"):
        OtherClass().register(for_another_class(worse))
    assert "production stays as it is: version 1 was trained for another patient class" in capsys.readouterr().out
    assert (place.link("staging"), place.link("production")) == ("2", "1")
    assert (place.model_store.folder / "1").stat().st_ino == before, "it may be serving: not published again"


def test_after_a_change_of_keys_a_model_that_misses_a_gate_leaves_the_old_link_and_says_why(
    place: Place, build: Build, worse: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    place.register(build)
    shutil.rmtree(place.var / "keys")
    with pytest.raises(GatesFailedError, match="version 2 stays in staging"):
        place.register(worse)
    assert "production stays as it is: version 1 is not signed by var/keys/bundle.pub" in capsys.readouterr().out
    assert (place.link("staging"), place.link("production")) == ("2", "1")


def test_production_that_was_moved_past_us_is_left_there_and_said_so(place: Place, build: Build) -> None:
    place.register(build)
    place.register(another(build))
    place.registry.point("production", "1", entry=1)
    with pytest.raises(PromotionError, match="production leads to version 1, but was promoted to 2"):
        place.register(another(build, 0.15))
    assert place.links() == ("3", "1")


def test_a_new_key_signs_a_new_version_of_the_same_build(place: Place, build: Build) -> None:
    place.register(build)
    shutil.rmtree(place.var / "keys")
    assert place.register(build) == "version 2, production and staging"
    assert place.model_store.opened("2") is not None


def test_a_registry_folder_that_cannot_be_used_is_one_line(place: Place, build: Build) -> None:
    with pytest.raises(RegistryError, match="missing"):
        Registry("inventada", uri=None, var=place.var / "missing")
    assert build.pickled


def test_a_server_is_named_without_its_password_even_if_that_has_an_at_sign() -> None:
    with (
        pytest.raises(RegistryError, match="model registry host:5000: cannot be reached"),
        translated("http://user:p@ss@host:5000"),
    ):
        raise ConnectionError
